# The prompt's prefix is printed before what the user's own prompt function returns.
$global:__LlmstackLabel = ''

function global:__LlmstackShow([string]$Label, [string]$Color) {
    $global:__LlmstackLabel = ''
    if (-not $Label) { return }
    $escape = [char]27
    if ($Color) { $Label = "$escape[38;5;${Color}m$Label$escape[39m" }
    $global:__LlmstackLabel = "$Label "
}

if (-not (Test-Path -Path Function:__LlmstackOwnPrompt)) {
    function global:__LlmstackOwnPrompt { '' }
    Copy-Item -Path Function:prompt -Destination Function:__LlmstackOwnPrompt
}

function global:prompt {
    $succeeded = $?
    $code = $global:LASTEXITCODE
    __LlmstackCheck
    $global:LASTEXITCODE = $code
    # A command that fails without a word, for a prompt that shows `$?`.
    if (-not $succeeded) { Write-Error '' -ErrorAction Ignore }
    $shown = "$(__LlmstackOwnPrompt)"
    $global:LASTEXITCODE = $code
    $rest = $shown.TrimStart("`r", "`n")
    $lead = $shown.Substring(0, $shown.Length - $rest.Length)
    return "$lead$global:__LlmstackLabel$rest"
}

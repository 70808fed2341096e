# The prompt's prefix is put before what the user's own prompt function returns.
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
    # Where no program has run yet there is none, which is an error under Set-StrictMode.
    $code = Get-Variable -Name LASTEXITCODE -Scope Global -ValueOnly -ErrorAction Ignore
    __LlmstackCheck
    $global:LASTEXITCODE = $code
    # A command that fails without a word sets `$?`: for the user's own prompt, and for what calls this one.
    if (-not $succeeded) { Write-Error '' -ErrorAction Ignore }
    $shown = "$(__LlmstackOwnPrompt)"
    $global:LASTEXITCODE = $code
    $rest = $shown.TrimStart([char[]]"`r`n")
    $lead = $shown.Substring(0, $shown.Length - $rest.Length)
    "$lead$global:__LlmstackLabel$rest"
    if (-not $succeeded) { Write-Error '' -ErrorAction Ignore }
}

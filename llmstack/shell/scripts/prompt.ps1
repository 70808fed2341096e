# Puts the prefix before what the user's own prompt function returns.
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
    # Unset until a program has run, and reading it would fail under Set-StrictMode.
    $code = Get-Variable -Name LASTEXITCODE -Scope Global -ValueOnly -ErrorAction Ignore
    __LlmstackCheck
    $global:LASTEXITCODE = $code
    # A silent failure sets `$?` again, for the user's own prompt and for the caller of this one.
    if (-not $succeeded) { Write-Error '' -ErrorAction Ignore }
    $shown = "$(__LlmstackOwnPrompt)"
    $global:LASTEXITCODE = $code
    $rest = $shown.TrimStart([char[]]"`r`n")
    $lead = $shown.Substring(0, $shown.Length - $rest.Length)
    "$lead$global:__LlmstackLabel$rest"
    if (-not $succeeded) { Write-Error '' -ErrorAction Ignore }
}

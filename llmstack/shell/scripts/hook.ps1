# llmstack's hook for PowerShell 5.1 and 7: wires a terminal up inside a trusted project, and unwires it outside.
# Written by `llmstack activate powershell`. At a prompt where nothing changed it starts no process.
# `llmstack_deactivate` switches it off in this terminal; without this file it is gone for good.
$global:__LlmstackPython = @PYTHON@
$global:__LlmstackEntry = @ENTRY@
$global:__LlmstackStore = @STORE@
$global:__LlmstackSeen = $null
$global:__LlmstackSaid = $null
$env:LLMSTACK_HOOK = "$PID"

function global:__LlmstackFirstLine([string]$Path) {
    if (-not [System.IO.File]::Exists($Path)) { return '' }
    try {
        $reader = New-Object System.IO.StreamReader $Path
        try { return "$($reader.ReadLine())" } finally { $reader.Dispose() }
    } catch {
        return ''
    }
}

# The nearest directory upwards with .llmstack/; none outside the file system.
function global:__LlmstackFind {
    if ($PWD.Provider.Name -ne 'FileSystem') { return '' }
    $directory = $PWD.ProviderPath
    while ($directory) {
        if ([System.IO.Directory]::Exists([System.IO.Path]::Combine($directory, '.llmstack'))) { return $directory }
        $directory = [System.IO.Path]::GetDirectoryName($directory)
    }
    return ''
}

# What can change while the terminal stays active.
function global:__LlmstackMarkers([string]$Found) {
    $state = [System.IO.Path]::Combine($Found, '.llmstack')
    $config = [System.IO.Path]::Combine($state, 'opencode.json')
    $edited = [System.IO.File]::GetLastWriteTimeUtc($config) -gt [System.IO.File]::GetLastWriteTimeUtc($global:__LlmstackStore)
    $pinned = __LlmstackFirstLine ([System.IO.Path]::Combine($state, 'default-channel'))
    $active = __LlmstackFirstLine ([System.IO.Path]::Combine($state, 'active-channel'))
    return "$pinned`n$active`n$edited"
}

function global:__LlmstackCheck {
    # The first line of the store changes with every `install` and `trust`.
    $stamp = __LlmstackFirstLine $global:__LlmstackStore
    $found = __LlmstackFind
    $now = ''
    if ($env:LLMSTACK_ACTIVE -and $found) { $now = __LlmstackMarkers $found }
    if ("${found}:${stamp}:$now" -cne $global:__LlmstackSeen) { __LlmstackChange $found $stamp }
}

function global:__LlmstackChange([string]$Found, [string]$Stamp) {
    $fields = @('off', '', '', '', '', '')
    $now = ''
    if ($Found -and [System.IO.File]::Exists($global:__LlmstackPython)) {
        $now = __LlmstackMarkers $Found
        # Nothing can be started in a directory that is gone; and `Stop` makes an error of any exit code.
        try {
            $answer = & $global:__LlmstackPython -I -S $global:__LlmstackEntry json $global:__LlmstackStore $Found
        } catch { $answer = $null }
        if (-not $answer) { return } # interrupted: asked again at the next prompt
        $fields = @(ConvertFrom-Json "$answer" | ForEach-Object { $_ }) # 5.1 passes the list on as one
    }
    $global:__LlmstackSeen = "${Found}:${Stamp}:"
    if ($fields[0] -eq 'on') {
        $global:__LlmstackSeen += $now
        __LlmstackOn $fields
    } elseif ($env:LLMSTACK_ACTIVE) {
        __LlmstackOff
    }
    __LlmstackShow $fields[2] $fields[3]
    if ($fields[1] -and "${Found}:$($fields[1])" -cne $global:__LlmstackSaid) {
        [Console]::Error.WriteLine("llmstack: $($fields[1])")
    }
    $global:__LlmstackSaid = "${Found}:$($fields[1])"
}

function global:__LlmstackSet([string]$Name, $Value) {
    # A plain `$null` arrives as an empty text, which since 7.5 does not remove the variable.
    if ($null -eq $Value) { $Value = [NullString]::Value }
    [Environment]::SetEnvironmentVariable($Name, $Value)
}

function global:__LlmstackMove([string]$From, [string]$To) {
    __LlmstackSet $To ([Environment]::GetEnvironmentVariable($From))
    __LlmstackSet $From $null
}

function global:__LlmstackOn([object[]]$Fields) {
    if ($env:LLMSTACK_ACTIVE) { __LlmstackOff }
    foreach ($name in @NAMES@) { __LlmstackMove $name "LLMSTACK_SAVED_$name" }
    for ($at = 6; $at + 1 -lt $Fields.Count; $at += 2) { __LlmstackSet $Fields[$at] $Fields[$at + 1] }
}

function global:__LlmstackOff {
    foreach ($name in @NAMES@) { __LlmstackMove "LLMSTACK_SAVED_$name" $name }
}

function global:llmstack_deactivate {
    if ($env:LLMSTACK_ACTIVE) { __LlmstackOff }
    __LlmstackShow '' ''
    __LlmstackSet LLMSTACK_HOOK $null
    # Not put back: what came later may have wrapped our prompt, which from now on adds nothing.
    function global:__LlmstackCheck { }
}

# llmstack's hook for PowerShell 5.1 and 7: activates a terminal inside a trusted project, deactivates it outside.
# Written by `llmstack activate powershell`. If nothing changed, it starts no process at a prompt.
# `llmstack_deactivate` turns it off in this terminal; delete this file to remove it.
$global:__LlmstackPython = @PYTHON@
$global:__LlmstackEntry = @ENTRY@
$global:__LlmstackTrustFile = @TRUST_FILE@
$global:__LlmstackStateKey = $null
$global:__LlmstackLastMessage = $null
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

# The nearest directory upwards that contains .llmstack/; empty outside the file system.
function global:__LlmstackFindProject {
    if ($PWD.Provider.Name -ne 'FileSystem') { return '' }
    $directory = $PWD.ProviderPath
    while ($directory) {
        if ([System.IO.Directory]::Exists([System.IO.Path]::Combine($directory, '.llmstack'))) { return $directory }
        $directory = [System.IO.Path]::GetDirectoryName($directory)
    }
    return ''
}

# What differs if a file that trust depends on has changed: its contents too, since times can be set back.
function global:__LlmstackReadVersions([string]$State) {
    $files = @('models.ini', 'opencode.json', 'litellm_config.yaml', 'default-channel', 'active-channel') |
        ForEach-Object { [System.IO.Path]::Combine($State, $_) }
    if ($env:LLMSTACK_MODELS_INI) { $files += $env:LLMSTACK_MODELS_INI }
    $versions = ''
    try {
        foreach ($pattern in '*.py', '*.yaml', '*.yml') {
            $files += [System.IO.Directory]::GetFiles($State, $pattern, [System.IO.SearchOption]::AllDirectories)
        }
        foreach ($file in $files) {
            $info = New-Object System.IO.FileInfo $file
            if (-not $info.Exists) { continue }
            $versions += "$file=$($info.Length):$($info.LastWriteTimeUtc.Ticks)"
            if ($info.Length -le 65536) { $versions += [System.IO.File]::ReadAllText($file) }
        }
    } catch { $versions += 'unreadable' }
    return $versions
}

# What can change while the terminal is active.
function global:__LlmstackReadMarkers([string]$Project) {
    $state = [System.IO.Path]::Combine($Project, '.llmstack')
    $versions = __LlmstackReadVersions $state
    $pinned = __LlmstackFirstLine ([System.IO.Path]::Combine($state, 'default-channel'))
    $active = __LlmstackFirstLine ([System.IO.Path]::Combine($state, 'active-channel'))
    return "$pinned`n$active`n$versions"
}

function global:__LlmstackCheck {
    # The first line of the file changes with every `install` and `trust`.
    $stamp = __LlmstackFirstLine $global:__LlmstackTrustFile
    $project = __LlmstackFindProject
    $markers = ''
    if ($env:LLMSTACK_ACTIVE -and $project) { $markers = __LlmstackReadMarkers $project }
    if ("${project}:${stamp}:$markers" -cne $global:__LlmstackStateKey) { __LlmstackUpdate $project $stamp }
}

function global:__LlmstackUpdate([string]$Project, [string]$Stamp) {
    $fields = @('off', '', '', '', '', '')
    $markers = ''
    if ($Project -and [System.IO.File]::Exists($global:__LlmstackPython)) {
        $markers = __LlmstackReadMarkers $Project
        # No process can start in a deleted directory, and under `Stop` any exit code is an error.
        try {
            $output = & $global:__LlmstackPython -I -S $global:__LlmstackEntry json $global:__LlmstackTrustFile $Project
        } catch { $output = $null }
        if (-not $output) { return } # interrupted: try again at the next prompt
        $fields = @(ConvertFrom-Json "$output" | ForEach-Object { $_ }) # 5.1 emits the list as one object
    }
    $global:__LlmstackStateKey = "${Project}:${Stamp}:"
    if ($fields[0] -eq 'on') {
        $global:__LlmstackStateKey += $markers
        __LlmstackActivate $fields
    } elseif ($env:LLMSTACK_ACTIVE) {
        __LlmstackRestore
    }
    __LlmstackShow $fields[2] $fields[3]
    if ($fields[1] -and "${Project}:$($fields[1])" -cne $global:__LlmstackLastMessage) {
        [Console]::Error.WriteLine("llmstack: $($fields[1])")
    }
    $global:__LlmstackLastMessage = "${Project}:$($fields[1])"
}

function global:__LlmstackSetVariable([string]$Name, $Value) {
    # A plain `$null` becomes an empty string, which does not remove the variable since 7.5.
    if ($null -eq $Value) { $Value = [NullString]::Value }
    [Environment]::SetEnvironmentVariable($Name, $Value)
}

function global:__LlmstackMoveVariable([string]$From, [string]$To) {
    __LlmstackSetVariable $To ([Environment]::GetEnvironmentVariable($From))
    __LlmstackSetVariable $From $null
}

function global:__LlmstackActivate([object[]]$Fields) {
    if ($env:LLMSTACK_ACTIVE) { __LlmstackRestore }
    foreach ($name in @NAMES@) { __LlmstackMoveVariable $name "LLMSTACK_SAVED_$name" }
    for ($index = 6; $index + 1 -lt $Fields.Count; $index += 2) { __LlmstackSetVariable $Fields[$index] $Fields[$index + 1] }
}

function global:__LlmstackRestore {
    foreach ($name in @NAMES@) { __LlmstackMoveVariable "LLMSTACK_SAVED_$name" $name }
}

function global:llmstack_deactivate {
    if ($env:LLMSTACK_ACTIVE) { __LlmstackRestore }
    __LlmstackShow '' ''
    __LlmstackSetVariable LLMSTACK_HOOK $null
    # Our prompt function stays, since another one may have wrapped it; without a label it adds nothing.
    function global:__LlmstackCheck { }
}

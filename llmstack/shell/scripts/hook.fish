# llmstack's hook for fish: activates a terminal inside a trusted project, deactivates it outside.
# Written by `llmstack activate fish`. If nothing changed, it starts no process at a prompt.
# `llmstack_deactivate` turns it off in this terminal; delete this file to remove it.
set -g __llmstack_python @PYTHON@
set -g __llmstack_entry @ENTRY@
set -g __llmstack_trust_file @TRUST_FILE@
set -gx LLMSTACK_HOOK $fish_pid
set -q __llmstack_project; or set -g __llmstack_project ''

function __llmstack_check
    set -l stamp ''
    set -l markers ''
    # The first line of the file changes with every `install` and `trust`.
    test -f "$__llmstack_trust_file"; and read -l stamp <$__llmstack_trust_file
    if test "$stamp:$PWD" != "$__llmstack_search_key"
        set -g __llmstack_search_key "$stamp:$PWD"
        __llmstack_find_project
    else if test -n "$__llmstack_project"; and not test -d "$__llmstack_project/.llmstack"
        __llmstack_find_project
    end
    if test -n "$LLMSTACK_ACTIVE"; and test -n "$__llmstack_project"
        # These can change while the terminal is active.
        for file in default-channel active-channel
            set -l line ''
            if test -f "$__llmstack_project/.llmstack/$file"
                read line <"$__llmstack_project/.llmstack/$file"
            end
            set markers "$markers$line;"
        end
        __llmstack_read_versions
        set markers "$markers$__llmstack_versions"
    end
    test "$__llmstack_project:$stamp:$markers" = "$__llmstack_state_key"; or __llmstack_update "$stamp"
end

# Sets a global variable to what differs if a file that trust depends on has changed: to the contents, since
# times can be set back. A command substitution would not do: it costs more than all the rest.
function __llmstack_read_versions
    set -l state "$__llmstack_project/.llmstack"
    set -l names models.ini opencode.json litellm_config.yaml default-channel active-channel
    set -l files $state/$names $LLMSTACK_MODELS_INI $state/*.{py,yaml,yml} $state/*/*.{py,yaml,yml}
    set -g __llmstack_versions ''
    for file in $files
        if test -f "$file"
            set -l content ''
            contains -- "$file" $__llmstack_large; or read -z content <"$file"
            # Reading 3 MB takes 0.2 s: of a large file, the time of the last change must do from now on.
            string match -qr '(?s)^.{65535}' -- "$content"; and set -ga __llmstack_large "$file"
            contains -- "$file" $__llmstack_large; and set content (path mtime -- "$file")
            set -g __llmstack_versions "$__llmstack_versions$file=$content"
        end
    end
end

function __llmstack_find_project # the nearest directory upwards that contains .llmstack/
    set -g __llmstack_project ''
    set -l dir (path resolve -Z -- "$PWD" | string split0)
    while not test -d "$dir/.llmstack"
        test "$dir" != /; or return 0
        set dir (path dirname -Z -- "$dir" | string split0)
    end
    set -g __llmstack_project $dir
end

function __llmstack_update --argument-names stamp
    set -l fields off
    set -g __llmstack_versions ''
    if test -n "$__llmstack_project"; and test -x "$__llmstack_python"
        __llmstack_read_versions
        set fields ($__llmstack_python -I -S $__llmstack_entry nul $__llmstack_trust_file $__llmstack_project </dev/null | string split0)
    end
    test -n "$fields[1]"; or return 0 # interrupted: try again at the next prompt
    set -g __llmstack_state_key "$__llmstack_project:$stamp:"
    if test "$fields[1]" = on
        set -g __llmstack_state_key "$__llmstack_state_key$fields[5];$fields[6];$__llmstack_versions"
        __llmstack_activate $fields[7..]
    else if test -n "$LLMSTACK_ACTIVE"
        __llmstack_restore
    end
    __llmstack_show "$fields[3]" "$fields[4]"
    if test -n "$fields[2]"; and test "$__llmstack_project:$fields[2]" != "$__llmstack_last_message"
        printf 'llmstack: %s\n' "$fields[2]" >&2
    end
    set -g __llmstack_last_message "$__llmstack_project:$fields[2]"
end

function __llmstack_activate # NAME VALUE…
    test -z "$LLMSTACK_ACTIVE"; or __llmstack_restore
    for name in @NAMES@
        __llmstack_move_variable $name LLMSTACK_SAVED_$name
    end
    while test (count $argv) -ge 2
        set -gx $argv[1] $argv[2]
        set argv $argv[3..]
    end
end

function __llmstack_restore
    for name in @NAMES@
        __llmstack_move_variable LLMSTACK_SAVED_$name $name
    end
end

# Keeps whether the variable is set and exported. A universal one stays, and is visible again without ours.
function __llmstack_move_variable --argument-names from to
    set -eg $to
    set -qg $from; or return 0
    if set -qgx $from
        set -gx $to $$from
    else
        set -gu $to $$from
    end
    set -eg $from
end

# Makes `cd project; and opencode` work too.
function __llmstack_on_cd --on-variable PWD
    status is-command-substitution; or __llmstack_check
end

function llmstack_deactivate
    test -z "$LLMSTACK_ACTIVE"; or __llmstack_restore
    __llmstack_show '' ''
    __llmstack_decorate
    functions -e __llmstack_prompt __llmstack_on_cd
    set -eg LLMSTACK_HOOK
    set -eg __llmstack_search_key
    set -eg __llmstack_state_key
    set -eg __llmstack_versions
    set -eg __llmstack_large
    set -eg __llmstack_last_message
end

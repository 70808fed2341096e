# llmstack's hook for fish: wires a terminal up inside a trusted project, and unwires it outside.
# Written by `llmstack activate fish`. At a prompt where nothing changed it starts no process.
# `llmstack_deactivate` switches it off in this terminal; without this file it is gone for good.
set -g __llmstack_python @PYTHON@
set -g __llmstack_entry @ENTRY@
set -g __llmstack_store @STORE@
set -gx LLMSTACK_HOOK $fish_pid
set -q __llmstack_found; or set -g __llmstack_found ''

function __llmstack_check
    set -l stamp ''
    set -l now ''
    # Its first line changes with every `install` and `trust`.
    test -f "$__llmstack_store"; and read -l stamp <$__llmstack_store
    if test "$stamp:$PWD" != "$__llmstack_here"
        set -g __llmstack_here "$stamp:$PWD"
        __llmstack_find
    else if test -n "$__llmstack_found"; and not test -d "$__llmstack_found/.llmstack"
        __llmstack_find
    end
    if test -n "$LLMSTACK_ACTIVE"; and test -n "$__llmstack_found"
        # What can change while the terminal stays active.
        for file in default-channel active-channel
            set -l line ''
            if test -f "$__llmstack_found/.llmstack/$file"
                read line <"$__llmstack_found/.llmstack/$file"
            end
            set now "$now$line;"
        end
        __llmstack_edited; and set now "$now"edited
    end
    test "$__llmstack_found:$stamp:$now" = "$__llmstack_seen"; or __llmstack_change "$stamp"
end

function __llmstack_edited
    test "$__llmstack_found/.llmstack/opencode.json" -nt "$__llmstack_store"
end

function __llmstack_find # the nearest directory upwards with .llmstack/
    set -g __llmstack_found ''
    set -l dir (path resolve -Z -- "$PWD" | string split0)
    while not test -d "$dir/.llmstack"
        test "$dir" != /; or return 0
        set dir (path dirname -Z -- "$dir" | string split0)
    end
    set -g __llmstack_found $dir
end

function __llmstack_change --argument-names stamp
    set -l fields off
    set -l edited ''
    __llmstack_edited; and set edited edited
    if test -n "$__llmstack_found"; and test -x "$__llmstack_python"
        set fields ($__llmstack_python -I -S $__llmstack_entry nul $__llmstack_store $__llmstack_found </dev/null | string split0)
    end
    test -n "$fields[1]"; or return 0 # interrupted: asked again at the next prompt
    set -g __llmstack_seen "$__llmstack_found:$stamp:"
    if test "$fields[1]" = on
        set -g __llmstack_seen "$__llmstack_seen$fields[5];$fields[6];$edited"
        __llmstack_on $fields[7..]
    else if test -n "$LLMSTACK_ACTIVE"
        __llmstack_off
    end
    __llmstack_show "$fields[3]" "$fields[4]"
    if test -n "$fields[2]"; and test "$__llmstack_found:$fields[2]" != "$__llmstack_said"
        printf 'llmstack: %s\n' "$fields[2]" >&2
    end
    set -g __llmstack_said "$__llmstack_found:$fields[2]"
end

function __llmstack_on # NAME VALUE…
    test -z "$LLMSTACK_ACTIVE"; or __llmstack_off
    for name in @NAMES@
        __llmstack_move $name LLMSTACK_SAVED_$name
    end
    while test (count $argv) -ge 2
        set -gx $argv[1] $argv[2]
        set argv $argv[3..]
    end
end

function __llmstack_off
    for name in @NAMES@
        __llmstack_move LLMSTACK_SAVED_$name $name
    end
end

# A variable, as it is: set or not, exported or not. A universal one stays, and shows again when ours is gone.
function __llmstack_move --argument-names from to
    set -eg $to
    set -qg $from; or return 0
    if set -qgx $from
        set -gx $to $$from
    else
        set -gu $to $$from
    end
    set -eg $from
end

# `cd project; and opencode` is wired up too.
function __llmstack_moved --on-variable PWD
    status is-command-substitution; or __llmstack_check
end

function llmstack_deactivate
    test -z "$LLMSTACK_ACTIVE"; or __llmstack_off
    __llmstack_show '' ''
    __llmstack_decorate
    functions -e __llmstack_prompt __llmstack_moved
    set -eg LLMSTACK_HOOK
    set -eg __llmstack_here
    set -eg __llmstack_seen
    set -eg __llmstack_said
end

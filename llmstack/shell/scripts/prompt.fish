# Prints the prefix before the user's own prompt, which is kept under another name.
function __llmstack_show --argument-names label color
    set -g __llmstack_label $label
    set -g __llmstack_color_on ''
    set -g __llmstack_color_off ''
    if test -n "$color"
        set -g __llmstack_color_on \e'[38;5;'$color'm'
        set -g __llmstack_color_off \e'[39m'
    end
end

function __llmstack_decorate
    if test -z "$__llmstack_label"
        __llmstack_undecorate
    else if not __llmstack_decorated
        functions -e __llmstack_own_prompt
        functions -q fish_prompt; or function fish_prompt
        end
        functions -c fish_prompt __llmstack_own_prompt
        function fish_prompt
            # Runs first, while $status and $pipestatus are still the command's.
            set -l shown (__llmstack_own_prompt | string collect --allow-empty)
            while string match -q \n'*' -- "$shown" # a prompt may begin with an empty line
                echo
                set shown (string sub --start 2 -- "$shown" | string collect --allow-empty)
            end
            printf '%s%s%s %s' $__llmstack_color_on "$__llmstack_label" $__llmstack_color_off "$shown"
        end
    end
end

function __llmstack_decorated
    functions -q __llmstack_own_prompt; and string match -q '*__llmstack_own_prompt*' -- (functions fish_prompt)
end

function __llmstack_undecorate
    functions -q __llmstack_own_prompt; or return 0
    if __llmstack_decorated
        functions -e fish_prompt
        functions -c __llmstack_own_prompt fish_prompt
    end
    functions -e __llmstack_own_prompt
end

function __llmstack_prompt --on-event fish_prompt
    __llmstack_check
    __llmstack_decorate
end

# The prefix of the prompt refers to variables, so that a directory's name is never expanded.
_llmstack_prefix='\[${_llmstack_color_on-}\]${_llmstack_label-}\[${_llmstack_color_off-}\]'

_llmstack_show() { # LABEL COLOR: sets what the prefix shows
  _llmstack_label=${1:+$1 } _llmstack_color_on='' _llmstack_color_off=''
  [[ -z $2 ]] || _llmstack_color_on=$'\e[38;5;'$2'm' _llmstack_color_off=$'\e[39m'
}

_llmstack_decorate() {
  local lead='' rest=${PS1-}
  case $rest in
  *"$_llmstack_prefix"*)
    [[ -n ${_llmstack_label-} ]] || PS1=${rest%%"$_llmstack_prefix"*}${rest#*"$_llmstack_prefix"}
    return 0
    ;;
  esac
  [[ -n ${_llmstack_label-} ]] || return 0
  while :; do # a prompt may begin with an empty line
    case $rest in
    '\n'*) lead+='\n' rest=${rest#??} ;;
    $'\n'*) lead+=$'\n' rest=${rest#?} ;;
    *) break ;;
    esac
  done
  PS1=$lead$_llmstack_prefix$rest
}

_llmstack_prompt() {
  local code=$?
  _llmstack_check
  _llmstack_register
  _llmstack_decorate
  [[ $- != *e* ]] || code=0 # after `! true` an interactive `set -e` shell would exit here
  return "$code"
}

# Runs last, since other entries may set PS1; keeps the user's own entries.
_llmstack_register() {
  local index=0 last
  for index in "${!PROMPT_COMMAND[@]}"; do :; done
  last=${PROMPT_COMMAND[index]-}
  case $last in
  *_llmstack_prompt) return 0 ;;
  *__bp_interactive_mode) # bash-preexec must stay last
    case "${PROMPT_COMMAND[*]} ${precmd_functions[*]-}" in
    *_llmstack_prompt*) ;;
    *) precmd_functions+=(_llmstack_prompt) ;;
    esac
    return 0
    ;;
  esac
  while [[ $last == *[[:space:]\;] ]]; do last=${last%?}; done
  PROMPT_COMMAND[index]=${last:+$last$'\n'}_llmstack_prompt
}

_llmstack_unregister() {
  local index
  for index in "${!PROMPT_COMMAND[@]}"; do
    PROMPT_COMMAND[index]=${PROMPT_COMMAND[index]//_llmstack_prompt/:}
  done
  for index in "${!precmd_functions[@]}"; do
    [[ ${precmd_functions[index]} != _llmstack_prompt ]] || unset "precmd_functions[index]"
  done
}

# The prompt's prefix refers to psvar, so that no name of a directory is ever expanded.
_llmstack_show() { # LABEL COLOR: what the prefix shows from now on
  typeset -g _llmstack_label=$1 _llmstack_wanted=''
  [[ -z $1 ]] || _llmstack_wanted="${2:+%F{$2\}}%91v${2:+%f} "
}

_llmstack_decorate() {
  local old=${_llmstack_prefix-} new=${_llmstack_wanted-} lead='' rest
  psvar[91]=${_llmstack_label-}
  if [[ -n $old && $old != $new && $PROMPT == *"$old"* ]]; then
    PROMPT=${PROMPT%%"$old"*}${PROMPT#*"$old"}
  fi
  typeset -g _llmstack_prefix=$new
  [[ -z $new || $PROMPT == *"$new"* ]] && return
  rest=$PROMPT
  while [[ $rest == $'\n'* ]]; do # a prompt may begin with an empty line
    lead+=$'\n' rest=${rest#?}
  done
  PROMPT=$lead$new$rest
}

_llmstack_prompt() {
  emulate -L zsh
  _llmstack_check
  _llmstack_decorate
  _llmstack_register
}

# Last of all, for what comes later may set PROMPT.
_llmstack_register() {
  emulate -L zsh
  [[ ${precmd_functions[-1]-} == _llmstack_prompt ]] && return
  typeset -ga precmd_functions=(${precmd_functions:#_llmstack_prompt} _llmstack_prompt)
}

_llmstack_unregister() {
  precmd_functions=(${precmd_functions:#_llmstack_prompt})
  chpwd_functions=(${chpwd_functions:#_llmstack_moved})
}

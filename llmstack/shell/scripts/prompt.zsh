# The prefix of the prompt refers to psvar, so that a directory's name is never expanded.
_llmstack_show() { # LABEL COLOR: sets what the prefix shows
  typeset -g _llmstack_label=$1 _llmstack_new_prefix=''
  [[ -z $1 ]] || _llmstack_new_prefix="${2:+%F{$2\}}%91v${2:+%f} "
}

_llmstack_decorate() {
  local old=${_llmstack_prefix-} new=${_llmstack_new_prefix-} lead='' rest
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

# Runs last, since other functions may set PROMPT.
_llmstack_register() {
  emulate -L zsh
  [[ ${precmd_functions[-1]-} == _llmstack_prompt ]] && return
  typeset -ga precmd_functions=(${precmd_functions:#_llmstack_prompt} _llmstack_prompt)
}

_llmstack_unregister() {
  precmd_functions=(${precmd_functions:#_llmstack_prompt})
  chpwd_functions=(${chpwd_functions:#_llmstack_on_cd})
}

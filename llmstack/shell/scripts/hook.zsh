# llmstack's hook for zsh: activates a terminal inside a trusted project, deactivates it outside.
# Written by `llmstack activate zsh`. If nothing changed, it starts no process at a prompt.
# `llmstack_deactivate` turns it off in this terminal; delete this file to remove it.
typeset -g _llmstack_python=@PYTHON@
typeset -g _llmstack_entry=@ENTRY@
typeset -g _llmstack_trust_file=@TRUST_FILE@
typeset -g _llmstack_search_key=${_llmstack_search_key-} _llmstack_project=${_llmstack_project-}
typeset -g _llmstack_state_key=${_llmstack_state_key-} _llmstack_last_message=${_llmstack_last_message-}
export LLMSTACK_HOOK=$$

_llmstack_resolve_dir() { # sets `dir` to the working directory, symbolic links resolved
  dir=${${PWD:A}%/}
}

_llmstack_query() {
  local -a fields
  fields=("${(@0)$("$_llmstack_python" -I -S "$_llmstack_entry" nul "$_llmstack_trust_file" "$_llmstack_project" </dev/null)}")
  _llmstack_apply "${(@)fields[1,-2]}" # the last field ends in NUL too
}

_llmstack_move_variable() { # FROM TO: keeps whether the variable is set and exported
  unset "$2"
  (( ${(P)+1} )) || return 0
  typeset -g "$2=${(P)1}"
  if [[ ${(Pt)1} == *export* ]]; then export "$2"; fi
  unset "$1"
}

# Makes `cd project && opencode` work too; leaves subshells alone.
_llmstack_on_cd() {
  emulate -L zsh
  (( ZSH_SUBSHELL )) || _llmstack_check
}
typeset -ga chpwd_functions # if unset, the next line would fail under `set -u`
chpwd_functions=(${chpwd_functions:#_llmstack_on_cd} _llmstack_on_cd)

llmstack_deactivate() {
  emulate -L zsh
  _llmstack_deactivate
}


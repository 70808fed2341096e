# llmstack's hook for zsh: wires a terminal up inside a trusted project, and unwires it outside.
# Written by `llmstack activate zsh`. At a prompt where nothing changed it starts no process.
# `llmstack_deactivate` switches it off in this terminal; without this file it is gone for good.
typeset -g _llmstack_python=@PYTHON@
typeset -g _llmstack_entry=@ENTRY@
typeset -g _llmstack_store=@STORE@
typeset -g _llmstack_here=${_llmstack_here-} _llmstack_found=${_llmstack_found-}
typeset -g _llmstack_seen=${_llmstack_seen-} _llmstack_said=${_llmstack_said-}
export LLMSTACK_HOOK=$$

_llmstack_physical() { # fills `dir` with where this is, without links
  dir=${${PWD:A}%/}
}

_llmstack_ask() {
  local -a fields
  fields=("${(@0)$("$_llmstack_python" -I -S "$_llmstack_entry" nul "$_llmstack_store" "$_llmstack_found" </dev/null)}")
  _llmstack_told "${(@)fields[1,-2]}" # the last field ends in NUL too
}

_llmstack_move() { # FROM TO: a variable, as it is: set or not, exported or not
  unset "$2"
  (( ${(P)+1} )) || return 0
  typeset -g "$2=${(P)1}"
  if [[ ${(Pt)1} == *export* ]]; then export "$2"; fi
  unset "$1"
}

# `cd project && opencode` is wired up too; a subshell is left alone.
_llmstack_moved() {
  emulate -L zsh
  (( ZSH_SUBSHELL )) || _llmstack_check
}
typeset -ga chpwd_functions # unset it would be an error under `set -u`
chpwd_functions=(${chpwd_functions:#_llmstack_moved} _llmstack_moved)

llmstack_deactivate() {
  emulate -L zsh
  _llmstack_deactivate
}


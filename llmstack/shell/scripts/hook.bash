# llmstack's hook for bash: wires a terminal up inside a trusted project, and unwires it outside.
# Written by `llmstack activate bash`. At a prompt where nothing changed it starts no process.
# `llmstack_deactivate` switches it off in this terminal; without this file it is gone for good.
_llmstack_python=@PYTHON@
_llmstack_entry=@ENTRY@
_llmstack_store=@STORE@
_llmstack_here=${_llmstack_here-} _llmstack_found=${_llmstack_found-}
_llmstack_seen=${_llmstack_seen-} _llmstack_said=${_llmstack_said-}
export LLMSTACK_HOOK=$$

_llmstack_physical() { # fills `dir` with where this is, without links
  dir=$(builtin pwd -P 2>/dev/null && printf x) || dir=$PWD$'\nx'
  dir=${dir%$'\nx'}
}

_llmstack_ask() {
  local field fields
  fields=()
  while IFS= read -r field; do # one in a line, as `printf %b` takes it; `< <()` would change the user's $!
    printf -v field %b "$field"
    fields+=("$field")
  done <<<"$("$_llmstack_python" -I -S "$_llmstack_entry" lines "$_llmstack_store" "$_llmstack_found" </dev/null)"
  _llmstack_told "${fields[@]}"
}

_llmstack_move() { # FROM TO: a variable, as it is: set or not, exported or not
  local shown
  unset "$2"
  [[ -n ${!1+set} ]] || return 0
  printf -v "$2" %s "${!1}"
  shown=$(declare -p "$1") # declare -x NAME="value"
  if [[ ${shown%%"$1"*} == *x* ]]; then export "$2"; fi
  unset "$1"
}

llmstack_deactivate() {
  _llmstack_deactivate
}


# llmstack's hook for bash: activates a terminal inside a trusted project, deactivates it outside.
# Written by `llmstack activate bash`. If nothing changed, it starts no process at a prompt.
# `llmstack_deactivate` turns it off in this terminal; delete this file to remove it.
_llmstack_python=@PYTHON@
_llmstack_entry=@ENTRY@
_llmstack_trust_file=@TRUST_FILE@
_llmstack_search_key=${_llmstack_search_key-} _llmstack_project=${_llmstack_project-}
_llmstack_state_key=${_llmstack_state_key-} _llmstack_last_message=${_llmstack_last_message-}
export LLMSTACK_HOOK=$$

_llmstack_resolve_dir() { # sets `dir` to the working directory, symbolic links resolved
  dir=$(builtin pwd -P 2>/dev/null && printf x) || dir=$PWD$'\nx'
  dir=${dir%$'\nx'}
}

_llmstack_query() {
  local field fields
  fields=()
  while IFS= read -r field; do # a field per line, for `printf %b`; `< <()` would change the user's $!
    printf -v field %b "$field"
    fields+=("$field")
  done <<<"$("$_llmstack_python" -I -S "$_llmstack_entry" lines "$_llmstack_trust_file" "$_llmstack_project" </dev/null)"
  _llmstack_apply "${fields[@]}"
}

_llmstack_add_version() { # FILE: its contents, since times can be set back; and whether it is new, if it is large
  local content='' LC_ALL=C
  if [[ -f $1 ]]; then
    IFS= read -r -d '' -n 65536 content 2>/dev/null <"$1" || :
    if [[ $1 -nt $_llmstack_trust_file ]]; then content+=new; fi
    versions+=$1=$content$'\n'
  fi
}

_llmstack_add_loadable() { # DIRECTORY: the files in it that LiteLLM can load
  local file
  for file in "$1"/*.py "$1"/*.y*ml "$1"/*/*.py "$1"/*/*.y*ml; do _llmstack_add_version "$file"; done
}

_llmstack_move_variable() { # FROM TO: keeps whether the variable is set and exported
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


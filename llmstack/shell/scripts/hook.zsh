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

zmodload -F zsh/stat b:zstat 2>/dev/null
_llmstack_add_version() { # FILE: what a change leaves different, even if the file gets its old time back
  local -a stat
  [[ -f $1 ]] || return 0
  # Times have seconds only: a second change within one shows in the contents, if these are not large.
  if zstat -A stat -- "$1" 2>/dev/null; then
    versions+=$1=$stat[1]:$stat[2]:$stat[8]:$stat[10]:$stat[11]
    if (( stat[8] > 65536 )); then return 0; fi
  fi
  versions+="$(<"$1")"$'\n' 2>/dev/null # reads without a process
}

_llmstack_add_loadable() { # DIRECTORY: the files in it that LiteLLM can load
  local file
  for file in "$1"/*.(py|yaml|yml)(N) "$1"/*/*.(py|yaml|yml)(N); do _llmstack_add_version "$file"; done
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


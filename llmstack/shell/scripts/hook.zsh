# llmstack's hook for zsh: wires a terminal up inside a trusted project, and unwires it outside.
# Written by `llmstack activate zsh`. At a prompt where nothing changed it starts no process.
# `llmstack_deactivate` switches it off in this terminal; without this file it is gone for good.
@PROMPT@
typeset -g _llmstack_python=@PYTHON@
typeset -g _llmstack_entry=@ENTRY@
typeset -g _llmstack_store=@STORE@
export LLMSTACK_HOOK=$$

_llmstack_check() {
  local stamp='' now=''
  # Its first line changes with every `install` and `trust`.
  [[ -f $_llmstack_store ]] && IFS= read -r stamp <$_llmstack_store
  if [[ $stamp:$PWD != ${_llmstack_here-} ]]; then
    typeset -g _llmstack_here=$stamp:$PWD
    _llmstack_find
  elif [[ -n $_llmstack_found && ! -d $_llmstack_found/.llmstack ]]; then
    _llmstack_find
  fi
  [[ -n ${LLMSTACK_ACTIVE-} && -n $_llmstack_found ]] && _llmstack_markers
  [[ $_llmstack_found:$stamp:$now == ${_llmstack_seen-} ]] || _llmstack_change
}

_llmstack_markers() { # fills `now` with what can change while the terminal stays active
  local file line
  for file in default-channel active-channel; do
    line=''
    if [[ -f $_llmstack_found/.llmstack/$file ]]; then
      IFS= read -r line <$_llmstack_found/.llmstack/$file
    fi
    now+=$line$'\n'
  done
  [[ $_llmstack_found/.llmstack/opencode.json -nt $_llmstack_store ]] && now+=edited
}

_llmstack_find() { # the nearest directory upwards with .llmstack/
  local dir=${${PWD:A}%/}
  typeset -g _llmstack_found=''
  while [[ ! -d $dir/.llmstack ]]; do
    [[ -n $dir ]] || return 0
    dir=${dir%/*}
  done
  _llmstack_found=${dir:-/}
}

_llmstack_change() {
  local -a fields=(off)
  local edited=''
  if [[ -n $_llmstack_found && -x $_llmstack_python ]]; then
    [[ $_llmstack_found/.llmstack/opencode.json -nt $_llmstack_store ]] && edited=edited
    fields=("${(@0)$("$_llmstack_python" -I -S "$_llmstack_entry" nul "$_llmstack_store" "$_llmstack_found" </dev/null)}")
  fi
  [[ -n ${fields[1]-} ]] || return 0 # interrupted: asked again at the next prompt
  typeset -g _llmstack_seen=$_llmstack_found:$stamp:
  if [[ $fields[1] == on ]]; then
    _llmstack_seen+=$fields[5]$'\n'$fields[6]$'\n'$edited
    _llmstack_on "${(@)fields[7,-2]}" # the last field ends in NUL too
  elif [[ -n ${LLMSTACK_ACTIVE-} ]]; then
    _llmstack_off
  fi
  _llmstack_show "${fields[3]-}" "${fields[4]-}"
  if [[ -n ${fields[2]-} && $_llmstack_found:$fields[2] != ${_llmstack_said-} ]]; then
    print -ru2 -- "llmstack: $fields[2]"
  fi
  typeset -g _llmstack_said=$_llmstack_found:${fields[2]-}
}

_llmstack_on() { # NAME VALUE…
  local name
  [[ -n ${LLMSTACK_ACTIVE-} ]] && _llmstack_off
  for name in @NAMES@; do
    (( ${(P)+name} )) && export "LLMSTACK_SAVED_$name=${(P)name}"
  done
  while (( $# )); do
    export "$1=$2"
    shift 2
  done
}

_llmstack_off() {
  local name saved
  for name in @NAMES@; do
    saved=LLMSTACK_SAVED_$name
    if (( ${(P)+saved} )); then
      export "$name=${(P)saved}"
    else
      unset "$name"
    fi
    unset "$saved"
  done
}

# `cd project && opencode` is wired up too; a subshell is left alone.
_llmstack_moved() {
  emulate -L zsh
  (( ZSH_SUBSHELL )) || _llmstack_check
}

llmstack_deactivate() {
  emulate -L zsh
  [[ -n ${LLMSTACK_ACTIVE-} ]] && _llmstack_off
  _llmstack_show '' ''
  _llmstack_decorate
  _llmstack_unregister
  unset LLMSTACK_HOOK _llmstack_here _llmstack_seen _llmstack_said
}

_llmstack_register
typeset -ga chpwd_functions=(${chpwd_functions:#_llmstack_moved} _llmstack_moved)

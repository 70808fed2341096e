# llmstack's hook for bash: wires a terminal up inside a trusted project, and unwires it outside.
# Written by `llmstack activate bash`. At a prompt where nothing changed it starts no process.
# `llmstack_deactivate` switches it off in this terminal; without this file it is gone for good.
@PROMPT@
_llmstack_python=@PYTHON@
_llmstack_entry=@ENTRY@
_llmstack_store=@STORE@
export LLMSTACK_HOOK=$$

_llmstack_check() {
  local stamp='' now=''
  # Its first line changes with every `install` and `trust`.
  if [[ -f $_llmstack_store ]]; then IFS= read -r stamp <"$_llmstack_store" || :; fi
  if [[ $stamp:$PWD != "${_llmstack_here-}" ]]; then
    _llmstack_here=$stamp:$PWD
    _llmstack_find
  elif [[ -n $_llmstack_found && ! -d $_llmstack_found/.llmstack ]]; then
    _llmstack_find
  fi
  [[ -z ${LLMSTACK_ACTIVE-} || -z $_llmstack_found ]] || _llmstack_markers
  if [[ $_llmstack_found:$stamp:$now != "${_llmstack_seen-}" ]]; then _llmstack_change; fi
}

_llmstack_markers() { # fills `now` with what can change while the terminal stays active
  local file line
  for file in default-channel active-channel; do
    line=''
    if [[ -f $_llmstack_found/.llmstack/$file ]]; then
      IFS= read -r line <"$_llmstack_found/.llmstack/$file" || :
    fi
    now+=$line$'\n'
  done
  [[ ! $_llmstack_found/.llmstack/opencode.json -nt $_llmstack_store ]] || now+=edited
}

_llmstack_find() { # the nearest directory upwards with .llmstack/
  local dir
  dir=$(builtin pwd -P 2>/dev/null && printf x) || dir=$PWD$'\nx'
  dir=${dir%$'\nx'}
  _llmstack_found=''
  while [[ ! -d $dir/.llmstack ]]; do
    [[ -n $dir ]] || return 0
    dir=${dir%/*}
  done
  _llmstack_found=${dir:-/}
}

_llmstack_change() {
  local field fields edited=''
  fields=(off)
  if [[ -n $_llmstack_found && -x $_llmstack_python ]]; then
    [[ ! $_llmstack_found/.llmstack/opencode.json -nt $_llmstack_store ]] || edited=edited
    fields=()
    while IFS= read -r field; do # one in a line, as `printf %b` takes it; `< <()` would change the user's $!
      printf -v field %b "$field"
      fields+=("$field")
    done <<<"$("$_llmstack_python" -I -S "$_llmstack_entry" lines "$_llmstack_store" "$_llmstack_found" </dev/null)"
  fi
  [[ -n ${fields[0]-} ]] || return 0 # interrupted: asked again at the next prompt
  _llmstack_seen=$_llmstack_found:$stamp:
  if [[ ${fields[0]} == on ]]; then
    _llmstack_seen+=${fields[4]}$'\n'${fields[5]}$'\n'$edited
    _llmstack_on "${fields[@]:6}"
  elif [[ -n ${LLMSTACK_ACTIVE-} ]]; then
    _llmstack_off
  fi
  _llmstack_show "${fields[2]-}" "${fields[3]-}"
  if [[ -n ${fields[1]-} && $_llmstack_found:${fields[1]} != "${_llmstack_said-}" ]]; then
    printf 'llmstack: %s\n' "${fields[1]}" >&2
  fi
  _llmstack_said=$_llmstack_found:${fields[1]-}
}

_llmstack_on() { # NAME VALUE…
  local name saved
  [[ -z ${LLMSTACK_ACTIVE-} ]] || _llmstack_off
  for name in @NAMES@; do
    saved=LLMSTACK_SAVED_$name
    [[ -z ${!name+set} ]] || export "$saved=${!name}"
  done
  while (($#)); do
    export "$1=$2"
    shift 2
  done
}

_llmstack_off() {
  local name saved
  for name in @NAMES@; do
    saved=LLMSTACK_SAVED_$name
    if [[ -n ${!saved+set} ]]; then
      export "$name=${!saved}"
    else
      unset "$name"
    fi
    unset "$saved"
  done
}

llmstack_deactivate() {
  [[ -z ${LLMSTACK_ACTIVE-} ]] || _llmstack_off
  _llmstack_show '' ''
  _llmstack_decorate
  _llmstack_unregister
  unset LLMSTACK_HOOK _llmstack_here _llmstack_seen _llmstack_said
}

_llmstack_register

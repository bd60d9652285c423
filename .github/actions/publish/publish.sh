#!/usr/bin/env bash
# Adds one version to a Module and waits until it is stored.
#
# In: MODULE, NAMESPACE, VERSION, MANIFEST (may be empty) and TIMEOUT from the environment, a kubectl that reaches the
# cluster. Out: bucket, key, checksum and contentDigest as outputs of the step; the reason as an error where it failed.
# The Module's list is only ever appended to, so that this may run again, and at the same time for other versions.
set -euo pipefail
export LC_ALL=C
: "${MODULE?}" "${NAMESPACE?}" "${VERSION?}" "${MANIFEST?}" "${TIMEOUT?}" "${GITHUB_OUTPUT?}"

GROUP=opendepot.defdev.io
# Who writes, in metadata.managedFields: Flux takes over what was written as kubectl, and removes what is not in Git.
MANAGER=--field-manager=opendepot-release
PAUSE=2
LISTED=false

# An error on the run's page. Its text is of others: it must not be taken for a command to the runner.
fail() {
  local text=${1//'%'/%25}
  text=${text//$'\r'/%0D}
  echo "::error title=Not published::${text//$'\n'/%0A}"
  exit 1
}

# Prints text of others with the runner's commands switched off.
show() {
  local token
  token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  echo "::stop-commands::$token"
  "$@" || true
  echo "::$token::"
}

k() {
  kubectl -n "$NAMESPACE" "$@"
}

check_inputs() {
  local semver='^v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$'
  local name='^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$'
  [[ $VERSION =~ $semver ]] || fail "version \"$VERSION\" is no semantic version: write MAJOR.MINOR.PATCH, such as v1.10.0."
  [[ $MODULE =~ $name ]] || fail "module \"$MODULE\" is no name of a Kubernetes object."
  [[ $NAMESPACE =~ $name ]] || fail "namespace \"$NAMESPACE\" is no name of a Kubernetes namespace."
  [[ $TIMEOUT =~ ^([0-9]{1,5})([smh]?)$ ]] || fail "timeout \"$TIMEOUT\" is no duration: write such as 90s, 10m or 1h."
  case ${BASH_REMATCH[2]} in
    m) DEADLINE=$((SECONDS + 10#${BASH_REMATCH[1]} * 60)) ;;
    h) DEADLINE=$((SECONDS + 10#${BASH_REMATCH[1]} * 3600)) ;;
    *) DEADLINE=$((SECONDS + 10#${BASH_REMATCH[1]})) ;;
  esac
}

# Makes the Module, or merges the manifest's moduleConfig into the one that is there.
configure() {
  local named answer config
  named=$(k create --dry-run=client -f "$MANIFEST" -o 'jsonpath={.kind}/{.metadata.name}' 2>&1) ||
    fail "manifest $MANIFEST: $named"
  [[ $named == "Module/$MODULE" ]] || fail "manifest $MANIFEST holds $named: it must hold the Module $MODULE, and nothing else."
  if answer=$(k create "$MANAGER" -f "$MANIFEST" 2>&1); then
    echo "$answer"
    return
  fi
  [[ $answer == *AlreadyExists* ]] || fail "The Module cannot be created: $answer"
  config=$(k create --dry-run=client -f "$MANIFEST" -o 'jsonpath={.spec.moduleConfig}')
  answer=$(k patch "modules.$GROUP/$MODULE" "$MANAGER" --type merge -p "{\"spec\":{\"moduleConfig\":$config}}" 2>&1) ||
    fail "The Module's moduleConfig cannot be changed: $answer"
  echo "$answer"
}

# Appends the version; that it is listed already is as good.
append() {
  local answer patch='[{"op":"add","path":"/spec/versions/-","value":{"version":"'$VERSION'"}}]'
  if answer=$(k patch "modules.$GROUP/$MODULE" "$MANAGER" --type json -p "$patch" 2>&1); then
    echo "$answer"
  elif [[ $answer == *'Duplicate value'* ]]; then
    LISTED=true
    echo "$VERSION is listed already."
  elif [[ $answer == *NotFound* ]]; then
    fail "There is no Module $MODULE in namespace $NAMESPACE: create it, or name its manifest. $answer"
  else
    fail "The version cannot be added: $answer"
  fi
}

# Sets NAME to the Version object of this Module and version, or to nothing, and COUNT to how many the Module has. The name
# is `<module>-<version>` only where that is legal and unambiguous; the list may have the other spelling of the version.
find_version() {
  local plain="$MODULE-${VERSION#v}" selector=() owner version name finalizers deleted
  local owned='{.metadata.ownerReferences[0].name} {.spec.version} {.metadata.name} {.metadata.finalizers}'
  owned+=' {.metadata.deletionTimestamp}{"\n"}'
  NAME='' COUNT=0
  # Not those of the original OpenDepot: they lack our finalizer.
  while read -r owner version name finalizers deleted; do
    if [[ $owner == "$MODULE" && $finalizers == *'/stored-object"'* && ${version#v} == "${VERSION#v}" ]]; then
      NAME=$name
      return
    fi
  done < <(k get "versions.$GROUP" "$plain" --ignore-not-found -o "jsonpath=$owned" 2>/dev/null || true)
  # Longer names are cut in the label.
  if ((${#MODULE} <= 63)); then selector=(-l "$GROUP/module=$MODULE"); fi
  while read -r owner version name finalizers deleted; do
    if [[ $owner != "$MODULE" || $finalizers != *'/stored-object"'* ]]; then continue; fi
    if [[ ${version#v} == "${VERSION#v}" ]]; then NAME=$name; fi
    if [[ -z $deleted ]]; then COUNT=$((COUNT + 1)); fi
  done < <(k get "versions.$GROUP" "${selector[@]}" -o "jsonpath={range .items[*]}$owned{end}")
}

# Sets READY, REASON and STALLED of an object, as far as they speak of its current generation, HANDLED, and of a Module
# DESIRED and PRUNED.
look() {
  local lines fields
  fields='{.metadata.generation}{"\n"}{.status.observedGeneration}{"\n"}{.status.lastHandledRequest}{"\n"}'
  fields+='{.status.conditions[?(@.type=="Ready")].status}{"\n"}{.status.conditions[?(@.type=="Ready")].reason}{"\n"}'
  fields+='{.status.conditions[?(@.type=="Stalled")].status}{"\n"}'
  fields+='{.status.versions.desired}{"\n"}{.status.versions.pruned}{"\n"}'
  mapfile -t lines < <(k get "$1" -o "jsonpath=$fields")
  READY='' REASON='' STALLED='' DESIRED=0 PRUNED=0 HANDLED=${lines[2]-}
  if [[ -n ${lines[0]-} && ${lines[0]} == "${lines[1]-}" ]]; then
    READY=${lines[3]-} REASON=${lines[4]-} STALLED=${lines[5]-}
    DESIRED=$((10#0${lines[6]-})) PRUNED=$((10#0${lines[7]-}))
  fi
}

# Fails with the object's own words, after the story that leads there.
give_up() {
  local object=$1 message
  message=$(k get "$object" -o 'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.reason}: {.message}{end}')
  echo "::group::$object"
  show k describe "$object"
  echo '::endgroup::'
  fail "$2$message"
}

# Waits for the Version object. What keeps the Module from making it ends the wait.
wait_for_object() {
  local object="modules.$GROUP/$MODULE" complete=0
  while find_version; [[ -z $NAME ]]; do
    look "$object"
    case $REASON in
      InvalidSpec | NameTaken | Suspended)
        # The reason may be another version's: this one is made a moment after the Module says so.
        sleep "$PAUSE"
        find_version
        if [[ -n $NAME ]]; then return; fi
        give_up "$object" ''
        ;;
    esac
    # The Module has a Version for each version that it wants, whether or not they are stored. Twice, since this one may
    # have been made between the two looks.
    if ((PRUNED > 0 && COUNT >= DESIRED)) || [[ $REASON == Synced ]]; then
      complete=$((complete + 1))
    else
      complete=0
    fi
    if ((complete > 1)); then
      give_up "$object" "$VERSION is not among the newest versions, which are all that versionHistoryLimit keeps. "
    fi
    if ((SECONDS >= DEADLINE)); then
      give_up "$object" "There is no Version object of $VERSION after $TIMEOUT. Is the operator running? "
    fi
    sleep "$PAUSE"
  done
}

# Prints what decides where a version is stored, and what, as the Module or the Version wants it.
placement() {
  local object=$1 config=$2 lines fields
  fields="{$config.storageConfig.s3}{'\n'}{$config.fileFormat}{'\n'}{$config.name}{'\n'}{$config.repoUrl}{'\n'}"
  fields+="{$config.repoOwner}{'\n'}"
  mapfile -t lines < <(k get "$object" -o "jsonpath=${fields//\'/\"}")
  local name=${lines[2]:-$MODULE}
  echo "${lines[0]-} ${lines[1]-} $name ${lines[3]:-https://github.com/${lines[4]-}/$name}"
}

# Waits until a Version that was there before has what the manifest may have changed in the Module: until then it is Ready,
# or failed, as it was before.
wait_for_change() {
  local module="modules.$GROUP/$MODULE" looks=0
  if [[ $LISTED == false || -z $MANIFEST ]]; then return; fi
  until [[ $(placement "$module" .spec.moduleConfig) == "$(placement "versions.$GROUP/$NAME" .spec.moduleConfigRef)" ]]; do
    look "$module"
    # Seen by the operator: it is about to reach the Versions, or makes no difference to them.
    if [[ -n $REASON ]]; then looks=$((looks + 1)); fi
    if [[ $REASON == Synced || $REASON == InvalidSpec || $REASON == Suspended ]] || ((looks > 15)); then return; fi
    if ((SECONDS >= DEADLINE)); then
      give_up "$module" "The Module's change has not reached $VERSION after $TIMEOUT. Is the operator running? "
    fi
    sleep "$PAUSE"
  done
}

# Waits until it is stored. One that failed before this run is tried again now.
wait_until_stored() {
  local object="versions.$GROUP/$NAME" request=''
  look "$object"
  if [[ $LISTED == true && $READY == False && $REASON != Publishing ]]; then
    request="github-${GITHUB_RUN_ID:-run}-${GITHUB_RUN_ATTEMPT:-1}-$RANDOM"
    k annotate "$MANAGER" --overwrite "$object" "$GROUP/requestedAt=$request" >/dev/null ||
      fail "$object failed before, and cannot be asked to try again: allow patch of versions.$GROUP."
  fi
  while true; do
    look "$object"
    if [[ -z $request || $HANDLED == "$request" ]]; then
      if [[ $READY == True ]]; then return; fi
      if [[ $STALLED == True ]]; then give_up "$object" ''; fi
    fi
    if [[ $REASON == Suspended ]]; then give_up "$object" ''; fi
    if ((SECONDS >= DEADLINE)); then give_up "$object" "$VERSION is not stored after $TIMEOUT. "; fi
    sleep "$PAUSE"
  done
}

tell() {
  local value
  # One read: where it is and what is there belong together.
  while read -r value; do
    echo "${value/=/: }"
    echo "$value" >>"$GITHUB_OUTPUT"
  done < <(k get "versions.$GROUP/$NAME" -o 'jsonpath=bucket={.status.storage.bucket}{"\n"}key={.status.storage.key}{"\n"}checksum={.status.checksum}{"\n"}contentDigest={.status.contentDigest}{"\n"}')
}

check_inputs
if [[ -n $MANIFEST ]]; then configure; fi
append
wait_for_object
wait_for_change
wait_until_stored
tell

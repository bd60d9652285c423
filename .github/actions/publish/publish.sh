#!/usr/bin/env bash
# Adds one version to a Module and waits until it is stored.
#
# Reads MODULE, NAMESPACE, VERSION, MANIFEST (may be empty) and TIMEOUT from the environment, and needs a kubectl with access
# to the cluster. Sets the outputs bucket, key, checksum and contentDigest of the step; a failure reports the reason as an error.
# With BINARY, the path of an opendepot binary, `opendepot publish` does the same without kubectl.
# It only appends to the Module's list, so it can run again, and for several versions at once.
set -euo pipefail
export LC_ALL=C
: "${MODULE?}" "${NAMESPACE?}" "${VERSION?}" "${MANIFEST?}" "${TIMEOUT?}" "${GITHUB_OUTPUT?}"

GROUP=opendepot.defdev.io
# The name in metadata.managedFields: Flux takes over fields of managers named kubectl*, and removes those not in Git.
MANAGER=--field-manager=opendepot-release
PAUSE=2
LISTED=false

# Reports an error on the run's page. The text is untrusted: the escapes keep the runner from executing it as a command.
fail() {
  local text=${1//'%'/%25}
  text=${text//$'\r'/%0D}
  echo "::error title=Not published::${text//$'\n'/%0A}"
  exit 1
}

# Prints untrusted text with the runner's commands disabled.
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
  [[ $VERSION =~ $semver ]] || fail "version \"$VERSION\" is not a semantic version: write MAJOR.MINOR.PATCH, such as v1.10.0."
  [[ $MODULE =~ $name ]] || fail "module \"$MODULE\" is not a valid name of a Kubernetes object."
  [[ $NAMESPACE =~ $name ]] || fail "namespace \"$NAMESPACE\" is not a valid name of a Kubernetes namespace."
  [[ $TIMEOUT =~ ^([0-9]{1,5})([smh]?)$ ]] || fail "timeout \"$TIMEOUT\" is not a duration: write for example 90s, 10m or 1h."
  case ${BASH_REMATCH[2]} in
    m) DEADLINE=$((SECONDS + 10#${BASH_REMATCH[1]} * 60)) ;;
    h) DEADLINE=$((SECONDS + 10#${BASH_REMATCH[1]} * 3600)) ;;
    *) DEADLINE=$((SECONDS + 10#${BASH_REMATCH[1]})) ;;
  esac
}

# Creates the Module, or merges the manifest's moduleConfig into the existing one.
configure() {
  local named answer config
  named=$(k create --dry-run=client -f "$MANIFEST" -o 'jsonpath={.apiVersion}/{.kind}/{.metadata.name}' 2>&1) ||
    fail "manifest $MANIFEST: $named"
  [[ $named == "$GROUP/v1alpha1/Module/$MODULE" ]] ||
    fail "manifest $MANIFEST contains $named: it must contain only $GROUP/v1alpha1/Module/$MODULE."
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

# Appends the version. A version that is already listed counts as success.
append() {
  local answer listed patch='[{"op":"add","path":"/spec/versions/-","value":{"version":"'$VERSION'"}}]'
  # In the other spelling, which the API server takes for another entry.
  while read -r listed; do
    if [[ ${listed#v} == "${VERSION#v}" ]]; then
      LISTED=true
      echo "$listed is already listed."
      return
    fi
  done < <(k get "modules.$GROUP/$MODULE" -o 'jsonpath={range .spec.versions[*]}{.version}{"\n"}{end}' 2>/dev/null || true)
  if answer=$(k patch "modules.$GROUP/$MODULE" "$MANAGER" --type json -p "$patch" 2>&1); then
    echo "$answer"
  elif [[ $answer == *'Duplicate value'* ]]; then
    LISTED=true
    echo "$VERSION is already listed."
  elif [[ $answer == *NotFound* ]]; then
    fail "There is no Module $MODULE in namespace $NAMESPACE: create it, or set the input manifest. $answer"
  else
    fail "The version cannot be added: $answer"
  fi
}

# Sets NAME to the Version object of this Module and version, or to nothing, and COUNT to the number of the Module's Versions.
# The name is `<module>-<version>` only if that is valid and unambiguous, and the list may have the other spelling.
find_version() {
  local plain="$MODULE-${VERSION#v}" selector=() owner version name finalizers deleted
  local owned='{.metadata.ownerReferences[?(@.controller==true)].name} {.spec.version} {.metadata.name} {.metadata.finalizers}'
  owned+=' {.metadata.deletionTimestamp}{"\n"}'
  NAME='' COUNT=0
  # The finalizer excludes Versions of the original OpenDepot.
  while read -r owner version name finalizers deleted; do
    if [[ $owner == "$MODULE" && $finalizers == *'/stored-object"'* && ${version#v} == "${VERSION#v}" ]]; then
      NAME=$name
      return
    fi
  done < <(k get "versions.$GROUP" "$plain" --ignore-not-found -o "jsonpath=$owned" 2>/dev/null || true)
  # The label truncates longer names.
  if ((${#MODULE} <= 63)); then selector=(-l "$GROUP/module=$MODULE"); fi
  while read -r owner version name finalizers deleted; do
    if [[ $owner != "$MODULE" || $finalizers != *'/stored-object"'* ]]; then continue; fi
    if [[ ${version#v} == "${VERSION#v}" ]]; then NAME=$name; fi
    if [[ -z $deleted ]]; then COUNT=$((COUNT + 1)); fi
  done < <(k get "versions.$GROUP" ${selector[@]+"${selector[@]}"} -o "jsonpath={range .items[*]}$owned{end}")
}

# Reads lines from standard input into the array FIELDS. bash 3.2 of macOS has no command for that.
read_lines() {
  local line
  FIELDS=()
  while IFS= read -r line || [[ -n $line ]]; do FIELDS+=("$line"); done
}

# Sets HANDLED of an object, READY, REASON and STALLED if they are of its current generation, and DESIRED and PRUNED of a
# Module.
look() {
  local fields
  fields='{.metadata.generation}{"\n"}{.status.observedGeneration}{"\n"}{.status.lastHandledRequest}{"\n"}'
  fields+='{.status.conditions[?(@.type=="Ready")].status}{"\n"}{.status.conditions[?(@.type=="Ready")].reason}{"\n"}'
  fields+='{.status.conditions[?(@.type=="Stalled")].status}{"\n"}'
  fields+='{.status.versions.desired}{"\n"}{.status.versions.pruned}{"\n"}'
  read_lines < <(k get "$1" -o "jsonpath=$fields")
  READY='' REASON='' STALLED='' DESIRED=0 PRUNED=0 HANDLED=${FIELDS[2]-}
  if [[ -n ${FIELDS[0]-} && ${FIELDS[0]} == "${FIELDS[1]-}" ]]; then
    READY=${FIELDS[3]-} REASON=${FIELDS[4]-} STALLED=${FIELDS[5]-}
    DESIRED=$((10#0${FIELDS[6]-})) PRUNED=$((10#0${FIELDS[7]-}))
  fi
}

# Fails with the object's message, after printing its description.
give_up() {
  local object=$1 message
  message=$(k get "$object" -o 'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.reason}: {.message}{end}')
  echo "::group::$object"
  show k describe "$object"
  echo '::endgroup::'
  fail "$2$message"
}

# Whether the Module's message says that the name of this version's object is taken. A name that is not `<module>-<version>` is
# unknown here, and may be meant.
is_taken() {
  local plain="$MODULE-${VERSION#v}" message
  if [[ $plain =~ [^a-z0-9.-] ]] || ((${#plain} > 253)); then return 0; fi
  message=$(k get "modules.$GROUP/$MODULE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].message}')
  message=" ${message//[,]/ } "
  [[ $message == *" $plain "* || $message == *" $plain. "* ]]
}

# Waits for the Version object. A state in which the Module cannot create it ends the wait.
wait_for_object() {
  local object="modules.$GROUP/$MODULE" complete=0
  while find_version; [[ -z $NAME ]]; do
    look "$object"
    case $REASON in
      NameTaken)
        # The reason may concern another version, while the operator waits with this one.
        if is_taken; then give_up "$object" ''; fi
        ;;
      InvalidSpec | RecordFull | Suspended)
        # The reason may concern another version: this one may be created just after the Module reports it.
        sleep "$PAUSE"
        find_version
        if [[ -n $NAME ]]; then return; fi
        give_up "$object" ''
        ;;
    esac
    # The Module has a Version for each wanted version. Checked twice, because this one may have been created between the
    # two requests.
    if ((PRUNED > 0 && COUNT >= DESIRED)) || [[ $REASON == Synced ]]; then
      complete=$((complete + 1))
    else
      complete=0
    fi
    if ((complete > 1)); then
      give_up "$object" "$VERSION is not among the newest versions that versionHistoryLimit keeps. "
    fi
    if ((SECONDS >= DEADLINE)); then
      give_up "$object" "There is no Version object for $VERSION after $TIMEOUT. Is the operator running? "
    fi
    sleep "$PAUSE"
  done
}

# Prints the configuration of a Module or Version that determines how an archive is fetched, its bytes and the location of the object.
placement() {
  local object=$1 config=$2 fields
  fields="{$config.storageConfig.s3}{'\n'}{$config.fileFormat}{'\n'}{$config.name}{'\n'}{$config.repoUrl}{'\n'}"
  fields+="{$config.repoOwner}{'\n'}"
  fields+="{$config.githubClientConfig.useAuthenticatedClient}{'\n'}{$config.githubClientConfig.secretName}{'\n'}"
  read_lines < <(k get "$object" -o "jsonpath=${fields//\'/\"}")
  local name=${FIELDS[2]:-$MODULE} signed=${FIELDS[5]-}
  echo "${FIELDS[0]-} ${FIELDS[1]-} $name ${FIELDS[3]:-https://github.com/${FIELDS[4]-}/$name} ${signed:-false} ${FIELDS[6]-}"
}

# Waits until an existing Version has the configuration that the manifest may have changed. Until then, its conditions describe
# the old configuration.
wait_for_change() {
  local module="modules.$GROUP/$MODULE" looks=0
  if [[ $LISTED == false || -z $MANIFEST ]]; then return; fi
  until [[ $(placement "$module" .spec.moduleConfig) == "$(placement "versions.$GROUP/$NAME" .spec.moduleConfigRef)" ]]; do
    look "$module"
    # The operator has seen the change: it will change the Versions soon, or does not affect them. One that the API server rejects
    # is sent again.
    if [[ -n $REASON && $REASON != VersionRefused ]]; then looks=$((looks + 1)); fi
    if [[ $REASON == Synced || $REASON == InvalidSpec || $REASON == Suspended ]] || ((looks > 15)); then return; fi
    if ((SECONDS >= DEADLINE)); then
      give_up "$module" "The Module's change has not reached $VERSION after $TIMEOUT. Is the operator running? "
    fi
    sleep "$PAUSE"
  done
}

# Waits until the version is stored. If it failed before this run, requests a retry.
wait_until_stored() {
  local object="versions.$GROUP/$NAME" request=''
  look "$object"
  if [[ $LISTED == true && $READY == False && $REASON != Publishing ]]; then
    request="github-${GITHUB_RUN_ID:-run}-${GITHUB_RUN_ATTEMPT:-1}-$RANDOM"
    k annotate "$MANAGER" --overwrite "$object" "$GROUP/requestedAt=$request" >/dev/null ||
      fail "$object failed before, and a retry cannot be requested: allow patch of versions.$GROUP."
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

publish_with_binary() {
  # The script takes a number without a unit as seconds.
  [[ $TIMEOUT =~ [smh]$ ]] || TIMEOUT+=s
  exec "$BINARY" publish "$MODULE" "$VERSION" --namespace "$NAMESPACE" --timeout "$TIMEOUT" --outputs "$GITHUB_OUTPUT" \
    ${MANIFEST:+--manifest "$MANIFEST"}
}

outputs() {
  local value
  # A single read, so that the outputs are consistent.
  while read -r value; do
    echo "${value/=/: }"
    echo "$value" >>"$GITHUB_OUTPUT"
  done < <(k get "versions.$GROUP/$NAME" -o 'jsonpath=bucket={.status.storage.bucket}{"\n"}key={.status.storage.key}{"\n"}checksum={.status.checksum}{"\n"}contentDigest={.status.contentDigest}{"\n"}')
}

check_inputs
if [[ -n ${BINARY:-} ]]; then publish_with_binary; fi
if [[ -n $MANIFEST ]]; then configure; fi
append
wait_for_object
wait_for_change
wait_until_stored
outputs

#!/usr/bin/env bash
# Sets TF_TOKEN_<host> for the following steps of the job, to a token of GitHub's OpenID provider.
#
# Reads HOST and AUDIENCE (may be empty) from the environment.
set -euo pipefail
export LC_ALL=C
: "${HOST?}" "${AUDIENCE?}" "${GITHUB_ENV?}"

fail() {
  echo "::error title=Not logged in::$1"
  exit 1
}

# A port cannot be part of the variable's name here; other characters are not part of a host.
[[ $HOST =~ ^[A-Za-z0-9.-]+$ ]] || fail "host: write a host without https:// and without a port, such as registry.acme.io"
# The registry's own audience is its host in lower case.
host=$(tr '[:upper:]' '[:lower:]' <<<"$HOST")
audience=${AUDIENCE:-$host}
[[ $audience =~ ^[A-Za-z0-9.:/_~-]+$ ]] || fail "audience: write the registry's --audience, such as registry.acme.io"
[[ -n ${ACTIONS_ID_TOKEN_REQUEST_URL:-} && -n ${ACTIONS_ID_TOKEN_REQUEST_TOKEN:-} ]] ||
  fail "the job has no permission to request a token: add 'permissions: id-token: write'"

# The header is read from standard input: arguments are visible to other processes.
answer=$(curl --silent --show-error --fail --proto '=https' --retry 3 --max-time 20 --header @- \
  --get --data-urlencode "audience=$audience" "$ACTIONS_ID_TOKEN_REQUEST_URL" \
  <<<"Authorization: Bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN") || fail "GitHub issued no token"
[[ $answer =~ \"value\"[[:space:]]*:[[:space:]]*\"([A-Za-z0-9._-]+)\" ]] || fail "GitHub's answer has no token"
token=${BASH_REMATCH[1]}
echo "::add-mask::$token"

# As both clients read it: dots become one underscore, dashes two.
name=${host//-/__}
name=${name//./_}
echo "TF_TOKEN_$name=$token" >>"$GITHUB_ENV"

#!/usr/bin/env bash
# The role of a release workflow on GitHub Actions. In AWS it may find the cluster and do nothing else; in the cluster it has the
# permissions of the group opendepot-publishers, which examples/release-workflow-rbac.yaml grants.
set -euo pipefail
. "$(dirname "$0")/settings.sh"

trust_issuer token.actions.githubusercontent.com
role "$RELEASE_ROLE" "$(fill_in release-trust-policy.json)"
say "role $RELEASE_ROLE: for $RELEASE_SUBJECT"
allow "$RELEASE_ROLE" eks "$(fill_in release-policy.json)"

entry=(--cluster-name "$CLUSTER" --principal-arn "arn:$partition:iam::$account:role/$RELEASE_ROLE")
if aws eks describe-access-entry "${entry[@]}" >/dev/null 2>&1; then
    aws eks update-access-entry "${entry[@]}" --kubernetes-groups opendepot-publishers >/dev/null
    say "cluster $CLUSTER: access entry exists"
else
    aws eks create-access-entry "${entry[@]}" --kubernetes-groups opendepot-publishers >/dev/null
    say "cluster $CLUSTER: access entry created"
fi

#!/usr/bin/env bash
# The AWS roles of operator and registry, for the argument irsa (IAM roles for service accounts) or pod-identity.
set -euo pipefail
. "$(dirname "$0")/settings.sh"

case "${1:-}" in
irsa)
    trust=irsa-trust-policy.json
    issuer=$(aws eks describe-cluster --name "$CLUSTER" --query cluster.identity.oidc.issuer --output text)
    oidc_provider=${issuer#https://}
    trust_issuer "$oidc_provider"
    ;;
pod-identity)
    trust=pod-identity-trust-policy.json
    ;;
*)
    echo "usage: $0 irsa | pod-identity" >&2
    exit 2
    ;;
esac

role "$OPERATOR_ROLE" "$(fill_in "$trust" opendepot)"
allow "$OPERATOR_ROLE" s3 "$(fill_in s3-policy.json)"
role "$REGISTRY_ROLE" "$(fill_in "$trust" opendepot-registry)"
allow "$REGISTRY_ROLE" s3 "$(fill_in registry-policy.json)"
if [ -n "$KMS_KEY_ARN" ]; then
    allow "$OPERATOR_ROLE" kms "$(fill_in kms-policy.json)"
    allow "$REGISTRY_ROLE" kms "$(fill_in registry-kms-policy.json)"
fi

# Gives a service account its role.
associate() {
    local id
    id=$(aws eks list-pod-identity-associations --cluster-name "$CLUSTER" --namespace "$NAMESPACE" --service-account "$1" \
        --query 'associations[0].associationId' --output text)
    if [ "$id" = None ]; then
        aws eks create-pod-identity-association --cluster-name "$CLUSTER" --namespace "$NAMESPACE" \
            --service-account "$1" --role-arn "arn:$partition:iam::$account:role/$2" >/dev/null
        say "service account $NAMESPACE/$1: given the role $2"
    else
        aws eks update-pod-identity-association --cluster-name "$CLUSTER" --association-id "$id" \
            --role-arn "arn:$partition:iam::$account:role/$2" >/dev/null
        say "service account $NAMESPACE/$1: has the role $2"
    fi
}
if [ "$1" = pod-identity ]; then
    associate opendepot "$OPERATOR_ROLE"
    associate opendepot-registry "$REGISTRY_ROLE"
else
    say "annotate the service accounts in $NAMESPACE with eks.amazonaws.com/role-arn:"
    say "  opendepot: arn:$partition:iam::$account:role/$OPERATOR_ROLE"
    say "  opendepot-registry: arn:$partition:iam::$account:role/$REGISTRY_ROLE"
fi

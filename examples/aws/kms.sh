#!/usr/bin/env bash
# Optional: a KMS key for the bucket. Prints the line that passes its ARN to the other scripts.
# Run it again with KMS_KEY_ARN set, or with the same alias, to replace the key's policy.
set -euo pipefail
. "$(dirname "$0")/settings.sh"
alias="${KMS_ALIAS:-alias/opendepot-modules}"

if [ -z "$KMS_KEY_ARN" ]; then
    # Not list-aliases: an account may have several pages of them, and --query applies to each page.
    if error=$(aws kms describe-key --key-id "$alias" 2>&1 >/dev/null); then
        KMS_KEY_ARN=$(aws kms describe-key --key-id "$alias" --query KeyMetadata.Arn --output text)
        say "key $alias: exists"
    elif [[ $error == *NotFoundException* ]]; then
        KMS_KEY_ARN=$(aws kms create-key --description 'OpenDepot modules' --query KeyMetadata.Arn --output text)
        aws kms create-alias --alias-name "$alias" --target-key-id "$KMS_KEY_ARN"
        say "key $alias: created"
    else
        printf '%s\n' "$error" >&2
        exit 1
    fi
fi

policy=kms-key-policy.json
if [ -z "$READER_ACCOUNTS" ]; then
    # The roles of this account need no statement of their own: IAM policies apply by the first one.
    READER_ACCOUNTS=$account
fi
aws kms put-key-policy --key-id "$KMS_KEY_ARN" --policy-name default --policy "$(fill_in "$policy")"
aws kms enable-key-rotation --key-id "$KMS_KEY_ARN"
say "key $alias: policy written, rotation enabled"
say "export KMS_KEY_ARN=$KMS_KEY_ARN"

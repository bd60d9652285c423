#!/usr/bin/env bash
# Creates the bucket: private, versioned, encrypted, only over TLS. Run it again after a change of settings.sh or the JSON files.
# It replaces the bucket's policy and lifecycle rules: use a bucket that holds nothing but modules.
set -euo pipefail
. "$(dirname "$0")/settings.sh"

if aws s3api head-bucket --bucket "$BUCKET" --expected-bucket-owner "$account" >/dev/null 2>&1; then
    say "bucket $BUCKET: exists"
elif [ "$AWS_REGION" = us-east-1 ]; then
    # This region is no location constraint.
    aws s3api create-bucket --bucket "$BUCKET" --object-ownership BucketOwnerEnforced >/dev/null
    say "bucket $BUCKET: created"
else
    aws s3api create-bucket --bucket "$BUCKET" --object-ownership BucketOwnerEnforced \
        --create-bucket-configuration "LocationConstraint=$AWS_REGION" >/dev/null
    say "bucket $BUCKET: created"
fi
at=(--bucket "$BUCKET" --expected-bucket-owner "$account")

aws s3api put-public-access-block "${at[@]}" --public-access-block-configuration \
    BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true
say "bucket $BUCKET: public access blocked"

aws s3api put-bucket-versioning "${at[@]}" --versioning-configuration Status=Enabled
say "bucket $BUCKET: versioned"

rule='{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}'
if [ -n "$KMS_KEY_ARN" ]; then
    rule='{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "'$KMS_KEY_ARN'"}, "BucketKeyEnabled": true}'
fi
aws s3api put-bucket-encryption "${at[@]}" --server-side-encryption-configuration "{\"Rules\": [$rule]}"
say "bucket $BUCKET: encrypted with ${KMS_KEY_ARN:-keys of S3}"

aws s3api put-bucket-lifecycle-configuration "${at[@]}" --lifecycle-configuration "$(fill_in lifecycle.json)" >/dev/null
say "bucket $BUCKET: noncurrent versions expire after 90 days, incomplete uploads after 7"

policy=bucket-policy.json
[ -z "$READER_ACCOUNTS" ] || policy=bucket-policy-readers.json
aws s3api put-bucket-policy "${at[@]}" --policy "$(fill_in "$policy")"
say "bucket $BUCKET: only over TLS${READER_ACCOUNTS:+; readable from $READER_ACCOUNTS}"

#!/usr/bin/env bash
# Brings the deleted objects of Versions back, in a bucket with versioning: removes the delete marker, and gives the Version the file
# name of that object, so that the operator adopts it. Put the entries back into the Module first, so that the Versions exist.
# Also for S3-compatible stores: set AWS_ENDPOINT_URL_S3. Arguments: the namespace, and the names of the Versions.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 NAMESPACE VERSION…" >&2
    exit 2
fi
namespace=$1
shift
export AWS_PAGER=''

undelete() {
    local name=$1 settings bucket region module key at prefix versions markers is_latest version owner marker unread=''
    # The function ends at the first command that fails: `set -e` does not apply in it, since the loop below continues after a failure.
    settings=$(kubectl get -n "$namespace" "versions.opendepot.defdev.io/$name" -o go-template='{{with .spec.moduleConfigRef}}{{.storageConfig.s3.bucket}} {{.storageConfig.s3.region}} {{.name}} {{with .storageConfig.s3.key}}{{.}}{{end}}{{end}}') || return
    read -r bucket region module key <<<"$settings"
    at=(--bucket "$bucket" --region "$region")
    prefix=${key:+${key%/}/}$module/
    # The CLI applies a query to each page of a list, so the whole list is sorted and filtered here.
    versions=$(aws s3api list-object-versions "${at[@]}" --prefix "$prefix" --output text \
        --query 'Versions[].[VersionId, Key]') || return
    markers=$(aws s3api list-object-versions "${at[@]}" --prefix "$prefix" --output text \
        --query 'DeleteMarkers[].[LastModified, VersionId, IsLatest, Key]' | sort -r) || return
    # The keys whose latest version is a delete marker, the latest deletion first.
    while IFS=$'\t' read -r _ _ is_latest key; do
        [ "$is_latest" = True ] || continue
        # S3 lists the newest version of a key first.
        version=$(awk -F '\t' -v key="$key" '$2 == key && !found { print $1; found = 1 }' <<<"$versions")
        [ -n "$version" ] || continue
        # A rejected HEAD, such as of a foreign object with another KMS key, does not end the search.
        if ! owner=$(aws s3api head-object "${at[@]}" --key "$key" --version-id "$version" --output text \
            --query 'Metadata.["opendepot-namespace", "opendepot-version-name"]' | tr '\t' /); then
            echo "$name: s3://$bucket/$key cannot be read; skipped" >&2
            # An object whose name a user has chosen is taken for a foreign one: the operator's names are UUIDs.
            case $key in */????????-????-????-????-????????????.*) unread=$key ;; esac
            continue
        fi
        [ "$owner" = "$namespace/$name" ] || continue
        if [ -n "$unread" ]; then
            echo "$name: s3://$bucket/$key was deleted before $unread, which may belong to this Version: make that object readable, and run this again" >&2
            return 1
        fi
        # A deletion that was repeated has left more than one marker.
        for marker in $(awk -F '\t' -v key="$key" '$4 == key { print $2 }' <<<"$markers"); do
            aws s3api delete-object "${at[@]}" --key "$key" --version-id "$marker" >/dev/null || return
        done
        kubectl patch --field-manager=opendepot-release -n "$namespace" "versions.opendepot.defdev.io/$name" \
            --type merge -p "{\"spec\": {\"fileName\": \"${key##*/}\"}}" >/dev/null || return
        echo "$name: s3://$bucket/$key is back"
        return
    done <<<"$markers"
    echo "$name: s3://$bucket/$prefix has no deleted object of this Version" >&2
    return 1
}

missing=0
for name; do
    undelete "$name" || missing=1
done
exit "$missing"

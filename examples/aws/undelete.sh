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
    local name=$1 settings bucket region prefix versions key version owner marker
    settings=$(kubectl get -n "$namespace" "versions.opendepot.defdev.io/$name" -o go-template='{{with .spec.moduleConfigRef}}{{.storageConfig.s3.bucket}} {{.storageConfig.s3.region}} {{with .storageConfig.s3.key}}{{.}}/{{end}}{{.name}}/{{end}}')
    read -r bucket region prefix <<<"$settings"
    local at=(--bucket "$bucket" --region "$region")
    versions=$(aws s3api list-object-versions "${at[@]}" --prefix "$prefix" \
        --query 'Versions[].[Key, VersionId]' --output text)
    # The keys whose latest version is a delete marker, the latest deletion first.
    for key in $(aws s3api list-object-versions "${at[@]}" --prefix "$prefix" --output text \
        --query 'reverse(sort_by(DeleteMarkers[?IsLatest] || `[]`, &LastModified))[].Key'); do
        # S3 lists the newest version of a key first.
        version=$(awk -v key="$key" '$1 == key && !found { print $2; found = 1 }' <<<"$versions")
        [ -n "$version" ] || continue
        owner=$(aws s3api head-object "${at[@]}" --key "$key" --version-id "$version" --output text \
            --query 'Metadata.["opendepot-namespace", "opendepot-version-name"]' | tr '\t' /)
        [ "$owner" = "$namespace/$name" ] || continue
        # A deletion that was repeated has left more than one marker.
        for marker in $(aws s3api list-object-versions "${at[@]}" --prefix "$key" --output text \
            --query "DeleteMarkers[?Key=='$key'].VersionId"); do
            aws s3api delete-object "${at[@]}" --key "$key" --version-id "$marker" >/dev/null
        done
        kubectl patch --field-manager=opendepot-release -n "$namespace" "versions.opendepot.defdev.io/$name" \
            --type merge -p "{\"spec\": {\"fileName\": \"${key##*/}\"}}" >/dev/null
        echo "$name: s3://$bucket/$key is back"
        return
    done
    echo "$name: s3://$bucket/$prefix has no deleted object of this Version" >&2
    return 1
}

missing=0
for name; do
    undelete "$name" || missing=1
done
exit "$missing"

# Sourced by the scripts beside it. Set these variables in your shell, or change the defaults here.
#
# The JSON files name the same things as these defaults, the account 123456789012 and a key of zeros; fill_in replaces them.
export AWS_REGION="${AWS_REGION:-us-west-2}"
# Version 1 of the AWS CLI reads only this one.
export AWS_DEFAULT_REGION="$AWS_REGION"
export AWS_PAGER=''
BUCKET="${BUCKET:-opendepot-modules}"
CLUSTER="${CLUSTER:-my-cluster}"
NAMESPACE="${NAMESPACE:-opendepot-system}"
OPERATOR_ROLE="${OPERATOR_ROLE:-opendepot}"
REGISTRY_ROLE="${REGISTRY_ROLE:-opendepot-registry}"
RELEASE_ROLE="${RELEASE_ROLE:-opendepot-github-actions-role}"
# What a token of the release workflow must name: a repository and one of its environments.
RELEASE_SUBJECT="${RELEASE_SUBJECT:-repo:acme/terraform-aws-eks:environment:release}"
# ARN of your KMS key; kms.sh creates one and prints it. Empty: objects are encrypted with S3's own keys.
KMS_KEY_ARN="${KMS_KEY_ARN:-}"
# Other accounts that install modules straight from S3, separated by spaces.
READER_ACCOUNTS="${READER_ACCOUNTS:-}"

here=$(cd "$(dirname "$0")" && pwd)
identity=$(aws sts get-caller-identity --query '[Account, Arn]' --output text)
read -r account caller <<<"$identity"
# ARNs of China, GovCloud and the European Sovereign Cloud name their partition, and two of them have a domain of their own.
partition=$(cut -d : -f 2 <<<"$caller")
case "$partition" in
aws-cn) domain=amazonaws.com.cn ;;
aws-eusc) domain=amazonaws.eu ;;
*) domain=amazonaws.com ;;
esac
oidc_provider=''

say() { printf '%s\n' "$*"; }

# Adds a rule to fill_in: a text of the JSON files, and what replaces it. Earlier rules come first.
replace() {
    local mark="$unit$((rules += 1))$unit" name
    name=$(printf '%s\n' "$2" | sed 's/[&|\\]/\\&/g')
    find="$find${find:+$newline}s|$1|$mark|g"
    fill="$fill${fill:+$newline}s|$mark|$name|g"
}

# Prints a JSON file with the names of this installation. The second argument replaces the service account opendepot.
#
# Two passes, so that no rule changes a name that another has inserted, such as a repository called like the default bucket: texts
# become marks, then marks become names. A mark is a number between control characters, which no name contains.
fill_in() {
    local unit=$'\037' newline=$'\n' rules=0 find='' fill='' readers='' reader service_account="${2:-opendepot}"
    for reader in $READER_ACCOUNTS; do
        readers="$readers${readers:+\", \"}arn:$partition:iam::$reader:root"
    done
    replace '"READER_ACCOUNTS"' "\"$readers\""
    replace s3.us-west-2.amazonaws.com "s3.$AWS_REGION.$domain"
    replace oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE "$oidc_provider"
    replace system:serviceaccount:opendepot-system:opendepot "system:serviceaccount:$NAMESPACE:$service_account"
    replace 'kubernetes-namespace": "opendepot-system' "kubernetes-namespace\": \"$NAMESPACE"
    replace 'kubernetes-service-account": "opendepot' "kubernetes-service-account\": \"$service_account"
    replace arn:aws:kms:us-west-2:123456789012:key/00000000-0000-0000-0000-000000000000 "$KMS_KEY_ARN"
    replace repo:acme/terraform-aws-eks:environment:release "$RELEASE_SUBJECT"
    replace arn:aws: "arn:$partition:"
    replace 123456789012 "$account"
    replace us-west-2 "$AWS_REGION"
    replace cluster/my-cluster "cluster/$CLUSTER"
    replace opendepot-modules "$BUCKET"
    sed "$find" "$here/$1" | sed "$fill"
}

# Creates a role, or replaces its trust policy.
role() {
    if aws iam get-role --role-name "$1" >/dev/null 2>&1; then
        aws iam update-assume-role-policy --role-name "$1" --policy-document "$2"
        say "role $1: trust policy replaced"
    else
        aws iam create-role --role-name "$1" --assume-role-policy-document "$2" >/dev/null
        say "role $1: created"
    fi
}

# Writes an inline policy of a role.
allow() {
    aws iam put-role-policy --role-name "$1" --policy-name "$2" --policy-document "$3"
    say "role $1: policy $2 written"
}

# Makes AWS accept tokens of an OpenID issuer whose audience is STS: by this name in every partition, as EKS issues them. The argument has no scheme.
trust_issuer() {
    local arn="arn:$partition:iam::$account:oidc-provider/$1"
    if aws iam get-open-id-connect-provider --open-id-connect-provider-arn "$arn" >/dev/null 2>&1; then
        say "OpenID provider $1: exists"
    else
        aws iam create-open-id-connect-provider --url "https://$1" --client-id-list sts.amazonaws.com >/dev/null
        say "OpenID provider $1: created"
    fi
}

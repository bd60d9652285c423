#!/usr/bin/env bash
# Optional: a gateway endpoint, by which traffic to S3 stays inside AWS. Arguments: the VPC, and the route tables of the nodes' subnets.
# The endpoint's policy applies to everything in these subnets that uses S3. An endpoint that exists keeps its policy.
set -euo pipefail
. "$(dirname "$0")/settings.sh"
if [ $# -lt 2 ]; then
    echo "usage: $0 VPC ROUTE_TABLE…" >&2
    exit 2
fi
vpc=$1
shift
service="com.amazonaws.$AWS_REGION.s3"

id=$(aws ec2 describe-vpc-endpoints --query 'VpcEndpoints[0].VpcEndpointId' --output text \
    --filters "Name=vpc-id,Values=$vpc" "Name=service-name,Values=$service" Name=vpc-endpoint-type,Values=Gateway)
if [ "$id" = None ]; then
    id=$(aws ec2 create-vpc-endpoint --vpc-id "$vpc" --service-name "$service" --vpc-endpoint-type Gateway \
        --route-table-ids "$@" --policy-document "$(fill_in endpoint-policy.json)" \
        --query VpcEndpoint.VpcEndpointId --output text)
    say "endpoint $id: created in $vpc, for $*"
else
    say "endpoint $id: exists in $vpc. Its policy must allow what endpoint-policy.json allows."
fi

//! The scripts in `examples/aws` outside the partition `aws`: ARNs of China and of `GovCloud` begin otherwise.

use opendepot_testbed::aws::{ACCOUNT, Aws};
use serde_json::{Value, json};

use crate::support::root;

const SCRIPT: &str = r#"
KMS_KEY_ARN=$(examples/aws/kms.sh | sed -n 's/^export KMS_KEY_ARN=//p')
export KMS_KEY_ARN
aws eks create-cluster --name prod --resources-vpc-config subnetIds=subnet-1 --role-arn "$CLUSTER_ROLE" >/dev/null
READER_ACCOUNTS=444455556666 examples/aws/bucket.sh
examples/aws/roles.sh irsa
examples/aws/release-role.sh
read -r vpc table <<<"$(aws ec2 describe-route-tables --query 'RouteTables[0].[VpcId, RouteTableId]' --output text)"
examples/aws/endpoint.sh "$vpc" "$table"
"#;

#[tokio::test]
async fn scripts_take_the_partition_from_the_callers_identity() {
    let aws = Aws::start().await.unwrap();
    let partitions = [
        ("cn-north-1", "aws-cn", "s3.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "s3.us-gov-west-1.amazonaws.com"),
    ];
    for (region, partition, s3) in partitions {
        let bucket = format!("acme-{partition}");
        let mut command = aws.command("bash").unwrap();
        command
            .args(["-euo", "pipefail", "-c", SCRIPT])
            .current_dir(root())
            .envs([("AWS_REGION", region), ("AWS_DEFAULT_REGION", region), ("BUCKET", &bucket)])
            .envs([("CLUSTER", "prod"), ("CLUSTER_ROLE", &format!("arn:{partition}:iam::{ACCOUNT}:role/c"))]);
        let output = command.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(!printed.contains("arn:aws:"), "{printed}");

        let get = |command: &str| aws.json(region, &command.split(' ').collect::<Vec<_>>()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut policies: Vec<String> = Vec::new();
        for role in ["opendepot", "opendepot-registry", "opendepot-github-actions-role"] {
            let found = get(&format!("iam get-role --role-name {role}"))["Role"].clone();
            assert_eq!(found["Arn"], format!("arn:{partition}:iam::{ACCOUNT}:role/{role}"));
            let statement = &found["AssumeRolePolicyDocument"]["Statement"][0];
            let issuer = text(&statement["Principal"]["Federated"]);
            assert!(
                issuer.starts_with(&format!("arn:{partition}:iam::{ACCOUNT}:oidc-provider/")),
                "{issuer}"
            );
            policies.push(found.to_string());
            for name in
                get(&format!("iam list-role-policies --role-name {role}"))["PolicyNames"].as_array().unwrap()
            {
                let policy = format!("iam get-role-policy --role-name {role} --policy-name {}", text(name));
                policies.push(get(&policy).to_string());
            }
        }
        policies.push(text(&get(&format!("s3api get-bucket-policy --bucket {bucket}"))["Policy"]));
        let key = get("kms describe-key --key-id alias/opendepot-modules --query KeyMetadata.Arn");
        let key_policy = get(&format!("kms get-key-policy --policy-name default --key-id {}", text(&key)));
        let key_policy = text(&key_policy["Policy"]);
        let statements: Value = serde_json::from_str(&key_policy).unwrap();
        assert_eq!(statements["Statement"][1]["Condition"], json!({"StringEquals": {"kms:ViaService": s3}}));
        policies.push(key_policy);
        let endpoint = get("ec2 describe-vpc-endpoints --query VpcEndpoints[0]");
        assert_eq!(endpoint["ServiceName"], format!("com.amazonaws.{region}.s3"));
        policies.push(text(&endpoint["PolicyDocument"]));
        // Roles: s3 and kms twice, eks once.
        assert_eq!(policies.len(), 3 + 5 + 3);
        let ours = format!("arn:{partition}:");
        for policy in &policies {
            let arns = policy.matches("arn:").count();
            assert!(arns > 0 && arns == policy.matches(&ours).count(), "{policy}");
        }
        // What moto lacks.
        let commands = aws.commands().unwrap();
        let is_ours = |args: &&Vec<String>| {
            args[1] == "create-access-entry" && args.iter().any(|word| word.starts_with(&ours))
        };
        assert_eq!(commands.iter().filter(is_ours).count(), 1, "{partition}");
    }
}

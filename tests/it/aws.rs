//! The commands of docs/aws.md, and so the scripts in examples/aws, against a stand-in for AWS: each of them twice, and then what the
//! stand-in has.

use opendepot_testbed::aws::{ACCOUNT, Aws};
use opendepot_testbed::markdown::blocks;
use opendepot_testbed::programs::program;
use serde_json::{Value, json};

use crate::support::root;

/// Its commands run here.
pub(crate) const PAGE: &str = "docs/aws.md";
const REGION: &str = "eu-central-1";
const BUCKET: &str = "acme-modules";
/// Names in the JSON files that a script has to replace.
const PLACEHOLDERS: [&str; 8] = [
    "opendepot-modules",
    "123456789012",
    "us-west-2",
    "id/EXAMPLE",
    "my-cluster",
    "READER_ACCOUNTS",
    "00000000-0000",
    "\"opendepot-system\"",
];

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn parsed(value: &Value) -> Value {
    serde_json::from_str(value.as_str().unwrap_or_else(|| panic!("{value} is no text"))).unwrap()
}

/// What the stand-in has, by the AWS CLI.
fn get(aws: &Aws, command: &str) -> Value {
    aws.json(REGION, &command.split(' ').collect::<Vec<_>>()).unwrap()
}

/// A policy of examples/aws with the names of this installation.
fn example(file: &str, key: &str) -> Value {
    let policy = std::fs::read_to_string(root().join("examples/aws").join(file)).unwrap();
    let zeros = "arn:aws:kms:us-west-2:123456789012:key/00000000-0000-0000-0000-000000000000";
    let policy = policy.replace(zeros, key).replace("123456789012", ACCOUNT).replace("us-west-2", REGION);
    serde_json::from_str(&policy.replace("opendepot-modules", BUCKET).replace("my-cluster", "prod")).unwrap()
}

/// Runs all commands of the page in one shell, whose namespace has another name than the default.
fn follow_the_page(aws: &Aws, vpc: &str, route_table: &str) -> String {
    let all = blocks(&root().join(PAGE)).unwrap().into_iter().filter(|block| block.language == "sh");
    // undelete.rs runs that one, with a cluster.
    let script: Vec<String> =
        all.map(|block| block.text).filter(|text| !text.contains("undelete.sh")).collect();
    let script = script.join("\n");
    let script = script.replace("vpc-0a1b2c3d4e5f60718", vpc).replace("rtb-0a1b2c3d4e5f60718", route_table);
    let mut command = aws.command("bash").unwrap();
    command.args(["-euo", "pipefail", "-c", &script]).current_dir(root()).env("NAMESPACE", "depot");
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// An AWS that has nothing yet, for what does not depend on answers: it prints the arguments that it gets.
const RECORDER: &str = r#"
aws() {
    case "$*" in
    sts*) printf '555566667777\tarn:aws:iam::555566667777:user/admin\n' ;;
    *describe-cluster*) echo https://oidc.eks.us-west-2.amazonaws.com/id/ABC ;;
    *list-pod-identity-associations*) echo None ;;
    *get-role*|*get-open-id*|*describe-access-entry*) return 1 ;;
    *) printf '%s\n' "$@" >&3 ;;
    esac
}
export -f aws
examples/aws/release-role.sh 3>&1 >/dev/null
examples/aws/roles.sh pod-identity 3>&1 >/dev/null
examples/aws/roles.sh irsa 3>&1 >/dev/null
"#;

#[test]
fn a_name_that_contains_a_default_is_inserted_as_it_is() {
    let subject = "repo:acme/opendepot-modules-us-west-2:environment:a&b|123456789012";
    let output = std::process::Command::new(program("bash"))
        .args(["-euo", "pipefail", "-c", RECORDER])
        .current_dir(root())
        .envs([("AWS_REGION", REGION), ("BUCKET", BUCKET), ("CLUSTER", "opendepot-modules-x")])
        .envs([("NAMESPACE", "opendepot-modules"), ("RELEASE_SUBJECT", subject)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sent = String::from_utf8(output.stdout).unwrap();
    // The arguments of one line are no JSON documents.
    let policies: Vec<Value> = sent
        .split("\n}\n")
        .filter_map(|text| Some(text.split_once("\n{\n")?.1))
        .map(|text| serde_json::from_str(&format!("{{{text}}}")).unwrap())
        .collect();
    let conditions: Vec<&Value> = policies
        .iter()
        .map(|policy| &policy["Statement"][0]["Condition"]["StringEquals"])
        .filter(|condition| !condition.is_null())
        .collect();
    let github = "token.actions.githubusercontent.com";
    let eks = "oidc.eks.us-west-2.amazonaws.com/id/ABC";
    let by_tags = |account: &str| {
        json!({
            "aws:RequestTag/kubernetes-namespace": "opendepot-modules",
            "aws:RequestTag/kubernetes-service-account": account,
            "aws:RequestTag/eks-cluster-arn": "arn:aws:eks:eu-central-1:555566667777:cluster/opendepot-modules-x",
        })
    };
    let by_token = |issuer: &str, subject: &str| json!({format!("{issuer}:aud"): "sts.amazonaws.com", format!("{issuer}:sub"): subject});
    let expected = [
        by_token(github, subject),
        by_tags("opendepot"),
        by_tags("opendepot-registry"),
        by_token(eks, "system:serviceaccount:opendepot-modules:opendepot"),
        by_token(eks, "system:serviceaccount:opendepot-modules:opendepot-registry"),
    ];
    assert_eq!(conditions, expected.iter().collect::<Vec<_>>());
    // And the bucket is still replaced.
    assert!(sent.contains("arn:aws:s3:::acme-modules/*") && !sent.contains(":::opendepot-modules"), "{sent}");
}

#[tokio::test]
async fn the_page_leads_from_nothing_to_bucket_roles_and_endpoint_however_often_it_is_followed() {
    let aws = Aws::start().await.unwrap();
    let cluster = "eks create-cluster --name prod --resources-vpc-config subnetIds=subnet-1 --role-arn";
    get(&aws, &format!("{cluster} arn:aws:iam::{ACCOUNT}:role/cluster"));
    let vpc = text(&get(&aws, "ec2 describe-vpcs --query Vpcs[0].VpcId"));
    let table = text(&get(&aws, "ec2 describe-route-tables --query RouteTables[0].RouteTableId"));
    let first = follow_the_page(&aws, &vpc, &table);
    let again = follow_the_page(&aws, &vpc, &table);
    assert!(first.contains("created") && !again.contains("created"), "{again}");

    the_bucket_is_private_versioned_and_encrypted(&aws);
    let key = text(&get(&aws, "kms describe-key --key-id alias/opendepot-modules --query KeyMetadata.Arn"));
    the_key_is_for_this_account(&aws, &key);
    the_roles_are_for_their_workloads(&aws, &key);
    the_release_may_find_the_cluster_and_nothing_else(&aws);
    let endpoints = get(&aws, "ec2 describe-vpc-endpoints --query VpcEndpoints");
    let [endpoint] = endpoints.as_array().unwrap().as_slice() else { panic!("{endpoints}") };
    assert_eq!(endpoint["ServiceName"], format!("com.amazonaws.{REGION}.s3"));
    assert_eq!(endpoint["RouteTableIds"], json!([table]));
    assert_eq!(parsed(&endpoint["PolicyDocument"]), example("endpoint-policy.json", &key));
    what_the_stand_in_lacks_is_validated(&aws);
}

fn the_bucket_is_private_versioned_and_encrypted(aws: &Aws) {
    let bucket = |command: &str| get(aws, &format!("s3api {command} --bucket {BUCKET}"));
    assert_eq!(bucket("get-bucket-location")["LocationConstraint"], REGION);
    let block = &bucket("get-public-access-block")["PublicAccessBlockConfiguration"];
    let all = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
    assert!(all.iter().all(|name| block[name] == true), "{block}");
    assert_eq!(bucket("get-bucket-versioning")["Status"], "Enabled");
    let rule = &bucket("get-bucket-encryption")["ServerSideEncryptionConfiguration"]["Rules"][0];
    assert_eq!(rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"], "aws:kms");
    assert_eq!(rule["BucketKeyEnabled"], true);
    let rules = &bucket("get-bucket-lifecycle-configuration")["Rules"];
    assert_eq!(rules.as_array().unwrap().len(), 1, "{rules}");
    assert_eq!(rules[0]["NoncurrentVersionExpiration"]["NoncurrentDays"], 90);
    assert_eq!(rules[0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"], 7);
    assert!(rules[0]["Expiration"]["Days"].is_null(), "current versions stay: {rules}");
    let policy = parsed(&bucket("get-bucket-policy")["Policy"]);
    let (tls, readers) = (&policy["Statement"][0], &policy["Statement"][1]);
    assert_eq!(
        (&tls["Effect"], &tls["Principal"], &tls["Action"]),
        (&json!("Deny"), &json!("*"), &json!("s3:*"))
    );
    assert_eq!(tls["Condition"], json!({"Bool": {"aws:SecureTransport": "false"}}));
    assert_eq!(readers["Action"], json!(["s3:GetObject"]));
    let accounts = json!(["arn:aws:iam::444455556666:root", "arn:aws:iam::777788889999:root"]);
    assert_eq!(readers["Principal"]["AWS"], accounts);
    filled_in(&policy);
}

fn the_key_is_for_this_account(aws: &Aws, key: &str) {
    assert_eq!(get(aws, "kms list-keys")["Keys"].as_array().unwrap().len(), 1);
    let rotates = get(aws, &format!("kms get-key-rotation-status --key-id {key}"));
    assert_eq!(rotates["KeyRotationEnabled"], true);
    let policy = get(aws, &format!("kms get-key-policy --policy-name default --key-id {key}"));
    let policy = parsed(&policy["Policy"]);
    let account = format!("arn:aws:iam::{ACCOUNT}:root");
    assert_eq!(policy["Statement"][0]["Principal"]["AWS"], account);
    assert_eq!(policy["Statement"][1]["Principal"]["AWS"], json!([account]));
    filled_in(&policy);
}

fn the_roles_are_for_their_workloads(aws: &Aws, key: &str) {
    let files = [
        ("opendepot", [("s3", "s3-policy.json"), ("kms", "kms-policy.json")]),
        ("opendepot-registry", [("s3", "registry-policy.json"), ("kms", "registry-kms-policy.json")]),
    ];
    for (role, policies) in files {
        for (name, file) in policies {
            let policy = get(aws, &format!("iam get-role-policy --role-name {role} --policy-name {name}"));
            assert_eq!(policy["PolicyDocument"], example(file, key), "{role}: {name}");
        }
        // The page ends with Pod Identity.
        let trust = trust(aws, role);
        let expected = json!({"StringEquals": {
            "aws:RequestTag/kubernetes-namespace": "depot",
            "aws:RequestTag/kubernetes-service-account": role,
            "aws:RequestTag/eks-cluster-arn": format!("arn:aws:eks:{REGION}:{ACCOUNT}:cluster/prod"),
        }});
        assert_eq!(trust["Condition"], expected);
        assert_eq!(trust["Principal"], json!({"Service": "pods.eks.amazonaws.com"}));
    }
    // And before with IRSA.
    let mut again = aws.command(root().join("examples/aws/roles.sh")).unwrap();
    again.arg("irsa").envs([("AWS_REGION", REGION), ("CLUSTER", "prod"), ("NAMESPACE", "depot")]);
    assert!(again.output().unwrap().status.success());
    let issuer = text(&get(aws, "eks describe-cluster --name prod --query cluster.identity.oidc.issuer"));
    let issuer = issuer.trim_start_matches("https://");
    for role in ["opendepot", "opendepot-registry"] {
        let trust = trust(aws, role);
        let expected = json!({"StringEquals": {
            format!("{issuer}:aud"): "sts.amazonaws.com",
            format!("{issuer}:sub"): format!("system:serviceaccount:depot:{role}"),
        }});
        assert_eq!(trust["Condition"], expected);
        let provider = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{issuer}");
        assert_eq!(trust["Principal"]["Federated"], provider);
        let known =
            get(aws, &format!("iam get-open-id-connect-provider --open-id-connect-provider-arn {provider}"));
        assert_eq!(known["ClientIDList"], json!(["sts.amazonaws.com"]));
    }
}

/// The only statement of a role's trust policy.
fn trust(aws: &Aws, role: &str) -> Value {
    let policy = get(aws, &format!("iam get-role --role-name {role} --query Role.AssumeRolePolicyDocument"));
    filled_in(&policy);
    assert_eq!(policy["Statement"].as_array().unwrap().len(), 1);
    policy["Statement"][0].clone()
}

fn the_release_may_find_the_cluster_and_nothing_else(aws: &Aws) {
    let role = "opendepot-github-actions-role";
    let trust = trust(aws, role);
    let expected = json!({"StringEquals": {
        "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
        "token.actions.githubusercontent.com:sub": "repo:acme/terraform-aws-eks:environment:release",
    }});
    assert_eq!(trust["Condition"], expected, "one repository and environment, without a pattern");
    let policy = get(aws, &format!("iam get-role-policy --role-name {role} --policy-name eks"));
    assert_eq!(policy["PolicyDocument"], example("release-policy.json", ""));
    let names = get(aws, &format!("iam list-role-policies --role-name {role}"));
    assert_eq!(names["PolicyNames"], json!(["eks"]));
}

fn filled_in(policy: &Value) {
    for name in PLACEHOLDERS {
        assert!(!policy.to_string().contains(name), "{name} is left in {policy}");
    }
}

/// moto has no access entries and no Pod Identity associations: the AWS CLI has validated what creates them.
fn what_the_stand_in_lacks_is_validated(aws: &Aws) {
    let commands = aws.commands().unwrap();
    let created = |verb: &str| -> Vec<String> {
        commands.iter().filter(|args| args[1] == verb).map(|args| args[2..].join(" ")).collect()
    };
    let role = |name: &str| format!("arn:aws:iam::{ACCOUNT}:role/{name}");
    let entry = format!(
        "--cluster-name prod --principal-arn {} --kubernetes-groups opendepot-publishers",
        role("opendepot-github-actions-role")
    );
    for verb in ["create-access-entry", "update-access-entry"] {
        assert_eq!(created(verb).as_slice(), std::slice::from_ref(&entry), "{verb}");
    }
    let associations = ["opendepot", "opendepot-registry"].map(|name| {
        let role = role(name);
        format!("--cluster-name prod --namespace depot --service-account {name} --role-arn {role}")
    });
    assert_eq!(created("create-pod-identity-association"), associations);
    // The group has its permissions from this file.
    let rbac = std::fs::read_to_string(root().join("examples/release-workflow-rbac.yaml")).unwrap();
    assert!(rbac.contains("kind: Group\n    name: opendepot-publishers\n"));
}

//! Who may install: tokens of service accounts, static tokens, and no token at all.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use aws_lc_rs::digest::{SHA256, digest};
use opendepot_testbed::signing::SigningKey;
use serde_json::{Value, json};

use crate::support::registry::archive;
use crate::support::token_registry::{Registry, RegistryBuilder};
use crate::support::{World, soon};

fn versions(world: &World, name: &str) -> String {
    format!("/v1/modules/{}/{name}/aws/versions", world.name)
}

fn static_token(filler: char) -> String {
    format!("odt_{}", filler.to_string().repeat(43))
}

/// A file of `--tokens-dir`.
fn write_token(folder: &Path, name: &str, token: &str) {
    let mut text = "sha256:".to_owned();
    for byte in digest(&SHA256, token.as_bytes()).as_ref() {
        write!(text, "{byte:02x}").unwrap();
    }
    std::fs::write(folder.join(name), text).unwrap();
}

/// A Role for a resource of ours, bound to a subject.
fn grant(world: &World, name: &str, resource: &str, only: &[&str], subject: &str) {
    let resource = format!("--resource={resource}");
    let mut args = vec!["create", "role", name, "--verb=get", &resource];
    let names: Vec<String> = only.iter().map(|name| format!("--resource-name={name}")).collect();
    args.extend(names.iter().map(String::as_str));
    world.kubectl(&args);
    world.kubectl(&["create", "rolebinding", name, &format!("--role={name}"), subject]);
}

async fn answer(registry: &Registry, path: &str, token: Option<&str>) -> (u16, String) {
    let answer = registry.get(path, token).await;
    let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(challenge.as_deref(), (answer.status() == 401).then_some("Bearer"));
    (answer.status().as_u16(), answer.text().await.unwrap().trim().to_owned())
}

/// A namespace with modules. The name of one in its address is not the object's.
async fn published() -> World {
    let world = World::new("identities").await;
    for name in ["net", "vpc", "terraform-aws-eks", "open"] {
        world.publish(name, &[("1.0.0", archive("# it\n", 0))]).await;
    }
    world.patch(
        "module/terraform-aws-eks",
        &json!({"metadata": {"annotations": {"opendepot.defdev.io/registry-name": "eks"}}}),
    );
    let status = json!({"status": {"address": format!("{}/eks/aws", world.name)}}).to_string();
    world.kubectl(&[
        "patch",
        "module/terraform-aws-eks",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ]);
    world
}

#[tokio::test]
async fn rights_are_those_of_rbac_and_public_means_everybody() {
    let world = published().await;
    let elsewhere = World::new("identities-elsewhere").await;
    let builder = RegistryBuilder::new(&world);
    let tokens = builder.file("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let [ci, twice, hidden, next] = ['a', 'b', 'c', 'd'].map(static_token);
    write_token(&tokens, "ci", &ci);
    write_token(&tokens, "first", &twice);
    write_token(&tokens, "second", &twice);
    write_token(&tokens, "..2026_11_27", &hidden);
    let registry = builder
        .args(&["--anonymous", "--trusted-proxy", "127.0.0.1"])
        .args(&["--tokens-dir", tokens.to_str().unwrap()])
        .start()
        .await;
    let account = |name: &str| {
        world.kubectl(&["create", "serviceaccount", name]);
        (format!("--serviceaccount={}:{name}", world.name), world.token(&registry.host, name))
    };
    let (all, all_token) = account("all");
    let (one, one_token) = account("one");
    let (reader, reader_token) = account("reader");
    let (everything, everything_token) = account("everything");
    let (foreign, foreign_token) = account("foreign");
    world.kubectl(&["create", "rolebinding", "all", "--clusterrole=opendepot-consumer", &all]);
    grant(&world, "one", "modules.opendepot.defdev.io/download", &["vpc", "terraform-aws-eks"], &one);
    grant(&world, "reader", "modules.opendepot.defdev.io", &[], &reader);
    grant(
        &world,
        "open",
        "modules.opendepot.defdev.io/download",
        &["open"],
        "--group=system:unauthenticated",
    );
    world.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "everything", "namespace": world.name},
        "rules": [{"apiGroups": ["opendepot.defdev.io"], "resources": ["*"], "verbs": ["get"]}],
    }));
    world.kubectl(&["create", "rolebinding", "everything", "--role=everything", &everything]);
    elsewhere.kubectl(&["create", "rolebinding", "foreign", "--clusterrole=opendepot-consumer", &foreign]);
    let user = "--user=opendepot:token:ci";
    world.kubectl(&["create", "rolebinding", "static", "--clusterrole=opendepot-consumer", user]);
    let group = "--group=opendepot:tokens";
    grant(&world, "tokens", "modules.opendepot.defdev.io/download", &["vpc"], group);

    // The registry has seen the Modules once it lists one; and the API server knows all rights once it knows the last one.
    for (name, token) in [("eks", &all_token), ("vpc", &ci)] {
        soon(|| async {
            let there = registry.get(&versions(&world, name), Some(token)).await.status();
            ensure!(there == 200, "{name}: {there}");
            Ok(())
        })
        .await;
    }
    let no_token = format!("token required: write a credentials block for {}", registry.host);
    let forbidden = "The module does not exist, or you have no permission to download it: ask for the permission to get modules/download in its namespace.";
    for (who, token, module, expected) in [
        ("bound in the namespace", Some(&all_token), "net", 200),
        ("resourceNames", Some(&one_token), "vpc", 200),
        ("resourceNames, by the object's name", Some(&one_token), "eks", 200),
        ("resourceNames, another", Some(&one_token), "net", 403),
        ("resourceNames, the object's name is no address", Some(&one_token), "terraform-aws-eks", 404),
        ("plain get modules", Some(&reader_token), "net", 403),
        ("all resources", Some(&everything_token), "net", 200),
        ("bound elsewhere", Some(&foreign_token), "net", 403),
        ("bound elsewhere, public", Some(&foreign_token), "open", 200),
        ("no token, public", None, "open", 200),
        ("no token", None, "net", 401),
        ("no token, unknown", None, "none", 401),
    ] {
        let (status, text) = answer(&registry, &versions(&world, module), token.map(String::as_str)).await;
        assert_eq!(status, expected, "{who}: {text}");
        match status {
            403 => assert_eq!(text, forbidden, "{who}"),
            401 => assert_eq!(text, no_token, "{who}"),
            _ => {}
        }
    }

    // Removed here and requested at the end: a permission counts for a minute.
    let download = format!("/v1/modules/{}/vpc/aws/1.0.0/download", world.name);
    assert_eq!(registry.get(&download, Some(&one_token)).await.status(), 204);
    world.kubectl(&["delete", "rolebinding", "one"]);
    let removed = Instant::now();

    let statics = Statics { folder: tokens, ci, twice, hidden, next };
    bad_tokens_are_never_anonymous(&world, &registry, &statics).await;
    tokens_of_the_past(&world, &registry, &statics).await;
    for path in [&download, &versions(&world, "vpc")] {
        soon(|| async {
            let after = removed.elapsed();
            let status = registry.get(path, Some(&one_token)).await.status();
            assert!(status == 403 || after < Duration::from_secs(61), "{path} after {after:?}: {status}");
            ensure!(status == 403, "{path} without the right: {status}");
            Ok(())
        })
        .await;
    }
    let log = registry.process.log();
    assert!(log.contains("first and second contain the same token"), "{log}");
    let statics = [&*statics.ci, &statics.next, &statics.twice];
    let all = [&statics[..], &[&all_token, &one_token, &foreign_token]].concat();
    registry.tells_none_of(&world, &all).await;
}

/// Static tokens: `twice` is in two files.
struct Statics {
    folder: PathBuf,
    ci: String,
    twice: String,
    hidden: String,
    next: String,
}

/// Also where everybody may, and without a review of what the API server would refuse.
async fn bad_tokens_are_never_anonymous(world: &World, registry: &Registry, statics: &Statics) {
    let (tokens_before, _) = registry.reviews(world).await;
    let open = versions(world, "open");
    let key = SigningKey::new("k").unwrap();
    let issuer = "https://kubernetes.default.svc";
    let forged = |claims: Value| key.sign(&json!({}), &claims).unwrap();
    let expired = forged(json!({"iss": issuer, "aud": [registry.host], "exp": 1_700_000_000}));
    let other_audience = world.token("elsewhere", "all");
    let cluster = world.kubectl(&["create", "token", "all"]).trim().to_owned();
    let audience = "token is for another audience";
    for (what, token, expected) in [
        ("other audience", &*other_audience, audience),
        ("of the cluster", &*cluster, audience),
        ("expired", &*expired, "token expired: get a new one"),
        ("in two files", &*statics.twice, "token is not known"),
        ("in a hidden file", &*statics.hidden, "token is not known"),
        ("unknown", &static_token('z'), "token is not known"),
        ("short", "odt_short", "token has less than 32 random bytes"),
        ("empty", "", "token is empty: TF_TOKEN_HOST is set without a value"),
        ("no token68", "a%20b", "token is malformed"),
        ("too long", &"a".repeat(16 * 1024 + 1), "token is longer than 16 KiB"),
    ] {
        assert_eq!(answer(registry, &open, Some(token)).await, (401, expected.to_owned()), "{what}");
    }
    assert_eq!(registry.reviews(world).await.0, tokens_before, "not worth a review");
    let discovery = registry.get("/.well-known/terraform.json", Some(&expired)).await;
    assert_eq!(discovery.status(), 200);
    for (what, token) in [
        ("opaque", "opaque".to_owned()),
        ("forged", forged(json!({"iss": issuer, "aud": [registry.host], "exp": 2_000_000_000}))),
    ] {
        let refused = (401, "token is not accepted".to_owned());
        assert_eq!(answer(registry, &open, Some(&token)).await, refused, "{what}");
        assert_eq!(answer(registry, &open, Some(&token)).await, refused, "{what}");
    }
    assert_eq!(registry.reviews(world).await.0, tokens_before + 2, "a refusal is remembered");
    registry.tells_none_of(world, &[&expired, &cluster, &other_audience]).await;
}

/// A service account and files of tokens that have changed.
async fn tokens_of_the_past(world: &World, registry: &Registry, statics: &Statics) {
    // Read again within 30 s, while the rest is tested. The last change is the one that is waited for below.
    std::fs::remove_file(statics.folder.join("second")).unwrap();
    write_token(&statics.folder, "ci", &statics.next);

    // A service account that is gone, and one made anew with the same name.
    let unused = world.token(&registry.host, "all");
    world.kubectl(&["delete", "serviceaccount", "all"]);
    unknown_to_the_api_server(world, registry, &unused).await;
    let refused = (401, "token is not accepted".to_owned());
    assert_eq!(answer(registry, &versions(world, "net"), Some(&unused)).await, refused);
    world.kubectl(&["create", "serviceaccount", "all"]);
    assert_eq!(
        answer(registry, &versions(world, "open"), Some(&world.token(&registry.host, "all"))).await.0,
        200
    );

    // Static tokens, as they are now: by the user's name, and by the group of all.
    // (Each attempt as another peer, since failed tokens are counted.)
    let mut peer = 0;
    while registry.get_from(&format!("192.0.2.{peer}"), &versions(world, "net"), Some(&statics.next)).await.0
        != 200
    {
        peer += 1;
        assert!(peer < 90, "the new token does not count");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(
        answer(registry, &versions(world, "open"), Some(&statics.ci)).await.0,
        401,
        "the old token of the file"
    );
    assert_eq!(
        answer(registry, &versions(world, "vpc"), Some(&statics.twice)).await.0,
        200,
        "it is in one file now"
    );
    assert_eq!(answer(registry, &versions(world, "net"), Some(&statics.twice)).await.0, 403);
}

/// Waits until the API server itself accepts a token no more, which it does a while after its account was deleted.
async fn unknown_to_the_api_server(world: &World, registry: &Registry, token: &str) {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": [registry.host]},
    });
    soon(|| async {
        let answer =
            world.bed.kubectl_with(&["create", "-f", "-", "-o", "json"], &review.to_string())?.ok()?;
        let answer: Value = serde_json::from_str(&answer)?;
        ensure!(answer["status"]["authenticated"] != true, "it is still accepted");
        Ok(())
    })
    .await;
}

/// Why the registry does not start with these arguments.
fn refused(args: &[&str], kubeconfig: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_opendepot"))
        .args(["serve", "--allow-storage", "*=*", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(args)
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .env("AWS_REGION", "us-west-2")
        .output()
        .unwrap();
    assert!(!output.status.success(), "{args:?}");
    [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat()
}

#[tokio::test]
async fn settings_that_would_let_strangers_in_are_refused_at_start() {
    let world = World::new("identities-start").await;
    let account = ("opendepot-system", "opendepot-registry");
    let (kubeconfig, _) = world.bed.kubernetes.kubeconfig_of(account.0, account.1, None).unwrap();
    // The audience of the API server's own tokens.
    for args in [
        &["--audience", "https://kubernetes.default.svc"][..],
        &["--url", "https://registry.test", "--audience", "https://kubernetes.default.svc"],
    ] {
        let message = refused(args, &kubeconfig);
        assert!(
            message
                .contains("--audience https://kubernetes.default.svc: tokens for this audience give access"),
            "{message}"
        );
    }
    assert!(refused(&[], &kubeconfig).contains("--audience: write the registry's host"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth.yaml");
    let issuer = |url: &str, prefix: &str, rules: &str| {
        format!(
            "- issuer: {{url: '{url}', audiences: [registry.test]}}\n{rules}  claimMappings: \
             {{username: {{claim: sub, prefix: '{prefix}'}}}}\n"
        )
    };
    let actions = "https://token.actions.githubusercontent.com";
    let rule = |claim: &str| format!("  claimValidationRules: [{{claim: {claim}, requiredValue: '1'}}]\n");
    let a = |prefix: &str| issuer("https://a.test", prefix, "");
    for (issuers, expected) in [
        (issuer(actions, "gh:", ""), "anyone can get a token from token.actions.githubusercontent.com"),
        (issuer(actions, "gh:", &rule("runner_environment")), "anyone can get a token"),
        (issuer("https://gitlab.com", "gl:", ""), "anyone can get a token from gitlab.com"),
        (a("system:"), "begin with system:"),
        (a("s"), "begin with system:"),
        (a("opendepot:token:"), "begin with opendepot:"),
        (a(""), "prefix: write one"),
        (a("x:") + &issuer("https://b.test", "x:y:", ""), "none begins another"),
        (a("x:") + &issuer("https://b.test", "x:", ""), "none begins another"),
        (a("x:") + &a("y:"), "listed twice"),
        (issuer("http://a.test", "x:", ""), "write an https URL"),
        (a("x:").replace("audiences: [registry.test]", "audiences: []"), "write at least one"),
        (a("x:").replace("claim: sub", "expression: claims.sub"), "CEL is not supported"),
        (a("x:").replace("claimMappings", "claimMapping"), "unknown field"),
    ] {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n{issuers}"
        );
        std::fs::write(&file, text).unwrap();
        let args = ["--audience", "registry.test", "--auth-config", file.to_str().unwrap()];
        let message = refused(&args, &kubeconfig);
        assert!(message.contains("--auth-config") && message.contains(expected), "{expected}: {message}");
    }
    let missing = folder.path().join("none");
    let missing = missing.to_str().unwrap();
    for flag in ["--auth-config", "--tokens-dir"] {
        let message = refused(&["--audience", "registry.test", flag, missing], &kubeconfig);
        assert!(message.contains(flag) && message.contains(missing), "{message}");
    }
}

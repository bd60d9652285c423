//! Where clients get their tokens: the credentials helper and the login action, with both real clients.

use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use opendepot_testbed::authority::Authority;
use opendepot_testbed::https::{Asked, Https, Reply};
use opendepot_testbed::signing::SigningKey;
use opendepot_testbed::terraform::Terraform;
use opendepot_testbed::workflow::{JobOutcome, Runner};
use serde_json::json;

use crate::support::command::{kubeconfig_for, opendepot};
use crate::support::registry::archive;
use crate::support::token_registry::{Registry, RegistryBuilder};
use crate::support::{World, root, soon};

/// What GitHub gives to a job with which it may request tokens.
const REQUEST_TOKEN: &str = "request-token-of-the-job";
/// A host for which the login action makes a variable: with dashes and dots.
const NAMED: &str = "my-registry.acme-corp.test";

/// GitHub Actions' identity provider: its keys, and the requests of jobs.
fn github(key: SigningKey) -> impl Fn(&Asked) -> Reply + Send + Sync {
    move |asked| {
        let issuer = format!("https://{}", asked.headers["host"].to_str().unwrap());
        match &*asked.path {
            "/.well-known/openid-configuration" => {
                Reply::json(&json!({"issuer": issuer, "jwks_uri": format!("{issuer}/.well-known/jwks")}))
            }
            "/.well-known/jwks" => Reply::json(&json!({"keys": [key.jwk()]})),
            "/idtoken/1/2" => {
                let bearer = asked.headers.get("authorization").and_then(|value| value.to_str().ok());
                if bearer != Some(&format!("Bearer {REQUEST_TOKEN}")) {
                    return Reply::status(401, "");
                }
                let pairs: Vec<_> = asked.query.split('&').filter_map(|pair| pair.split_once('=')).collect();
                let value = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
                if value("api-version") != Some("2.0") {
                    return Reply::status(400, "");
                }
                let audience = value("audience").unwrap_or_default().replace("%3A", ":");
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
                let claims = json!({
                    "iss": issuer, "aud": audience, "iat": now, "nbf": now - 300, "exp": now + 300,
                    "sub": "repo:acme/infra:ref:refs/heads/main", "repository": "acme/infra",
                    "repository_owner": "acme", "repository_owner_id": "9919",
                });
                let token = key.sign(&json!({}), &claims).unwrap();
                Reply::json(&json!({"count": token.len(), "value": token}))
            }
            _ => Reply::status(404, ""),
        }
    }
}

/// Two registries: one of a private module, for service accounts and GitHub's jobs, and another for everybody.
struct Stage {
    world: World,
    private: Registry,
    public: Registry,
    github: Https,
    /// The authorities of both registries and of GitHub.
    trusted: PathBuf,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn new(name: &str) -> Self {
        let world = World::new(name).await;
        for module in ["net", "open"] {
            world.publish(module, &[("1.0.0", archive("# it\n", 0))]).await;
        }
        let authority = Authority::new("github").unwrap();
        let github = Https::start(&authority, github(SigningKey::new("g").unwrap())).unwrap();
        let builder = RegistryBuilder::new(&world);
        let config = builder.file("auth.yaml");
        let text = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": [{
                "issuer": {"url": github.url, "audiences": [builder.host, NAMED], "audienceMatchPolicy": "MatchAny",
                           "certificateAuthority": authority.pem()},
                "claimValidationRules": [{"claim": "repository_owner_id", "requiredValue": "9919"}],
                "claimMappings": {"username": {"claim": "sub", "prefix": "github:"},
                                  "groups": {"claims": ["repository"], "prefix": "github:"}},
            }],
        });
        std::fs::write(&config, text.to_string()).unwrap();
        let private = builder.args(&["--auth-config", config.to_str().unwrap()]).start().await;
        let public = world.registry_with(&["--anonymous"]).await;
        world.kubectl(&["create", "serviceaccount", "ci"]);
        let account = format!("--serviceaccount={}:ci", world.name);
        for (name, subject) in [("ci", &*account), ("jobs", "--group=github:repository:acme/infra")] {
            world.kubectl(&["create", "rolebinding", name, "--clusterrole=opendepot-consumer", subject]);
        }
        let right = "--resource=modules.opendepot.defdev.io/download";
        world.kubectl(&["create", "role", "open", "--verb=get", right, "--resource-name=open"]);
        world.kubectl(&["create", "rolebinding", "open", "--role=open", "--group=system:unauthenticated"]);
        // Once the API server knows the last right, it knows them all.
        soon(|| async {
            let path = format!("/v1/modules/{}/open/aws/versions", world.name);
            let status = public.get(&path, None).await.status();
            anyhow::ensure!(status == 200, "{status}");
            Ok(())
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let trusted = folder.path().join("ca.pem");
        let [one, other] =
            [&private, &public].map(|registry| std::fs::read_to_string(&registry.ca_file).unwrap());
        std::fs::write(&trusted, [one, other, authority.pem()].concat()).unwrap();
        Self { world, private, public, github, trusted, folder }
    }

    /// The address of a module.
    fn module(&self, registry: &Registry, module: &str) -> String {
        registry.module(module, &format!("{}/{module}/aws", self.world.name), "1.0.0")
    }

    /// Both clients with this helper, whose environment they pass on.
    fn clients(&self, args: &[&str], env: &[(&str, &str)]) -> Vec<Terraform> {
        let args: Vec<&str> =
            ["--host", &self.private.host].into_iter().chain(args.iter().copied()).collect();
        let mut clients = Vec::new();
        for mut client in Terraform::both().unwrap() {
            for (name, value) in env {
                client = client.env(*name, *value);
            }
            let client = client.env("SSL_CERT_FILE", &self.trusted);
            let plugins = client.folder().join(".terraform.d/plugins");
            std::fs::create_dir_all(&plugins).unwrap();
            let helper = plugins.join("terraform-credentials-opendepot");
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_opendepot"), helper).unwrap();
            append(&client, &format!("credentials_helper \"opendepot\" {{\n  args = {}\n}}\n", json!(args)));
            clients.push(client);
        }
        clients
    }

    /// The variables of a job that may request tokens.
    fn job(&self) -> [(&'static str, String); 2] {
        let url = format!("{}/idtoken/1/2?api-version=2.0", self.github.url);
        [("ACTIONS_ID_TOKEN_REQUEST_URL", url), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN.to_owned())]
    }

    /// Runs the login action for a host, and then another step.
    fn login(&self, runner: Runner, host: &str) -> JobOutcome {
        let action = root().join(".github/actions/login");
        let runner = runner.with_action("opendepot/opendepot/.github/actions/login@v", action);
        let runner = runner.with_env("SSL_CERT_FILE", &self.trusted);
        let workflow = format!(
            "jobs:\n  plan:\n    steps:\n      - uses: opendepot/opendepot/.github/actions/login@v1\n        \
             with: {{host: '{host}'}}\n      - run: env | grep TF_TOKEN_\n"
        );
        runner.run(&workflow, None, &json!({})).unwrap()
    }
}

/// Adds to the settings of a client.
fn append(client: &Terraform, text: &str) {
    let path = client.folder().join(".terraformrc");
    let settings = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, settings + text).unwrap();
}

/// The users of the access log, in order.
fn users(registry: &Registry) -> Vec<String> {
    let log = registry.process.log();
    let user = |line: &str| {
        Some(line.split("user=").nth(1)?.split_whitespace().next()?.trim_matches('"').to_owned())
    };
    log.lines().filter_map(user).collect()
}

#[tokio::test]
async fn the_helper_gives_tokens_to_the_named_host_only() {
    let stage = Stage::new("credentials").await;
    let (world, private, public) = (&stage.world, &stage.private, &stage.public);
    let both = stage.module(private, "net") + &stage.module(public, "open");

    // By the user's kubeconfig, whose only right is to request tokens of this account.
    world.kubectl(&["create", "serviceaccount", "dev"]);
    let right = ["--verb=create", "--resource=serviceaccounts/token", "--resource-name=ci"];
    world.kubectl(&[&["create", "role", "dev"][..], &right].concat());
    let dev = format!("--serviceaccount={}:dev", world.name);
    world.kubectl(&["create", "rolebinding", "dev", "--role=dev", &dev]);
    let (kubeconfig, _) = world.bed.kubernetes.kubeconfig_of(&world.name, "dev", None).unwrap();
    let (kubeconfig, account) = (kubeconfig.to_str().unwrap(), format!("{}/ci", world.name));
    let token_file = stage.folder.path().join("token");
    let token = world.token(&private.host, "ci");
    private.lists(&format!("{}/net/aws", world.name), &token, 1).await;
    std::fs::write(&token_file, token + "\n").unwrap();
    let token_file = token_file.to_str().unwrap();
    let job = stage.job();
    let job = [(job[0].0, &*job[0].1), (job[1].0, &*job[1].1)];
    let service_account = format!("system:serviceaccount:{}:ci", world.name);
    let repository = "github:repo:acme/infra:ref:refs/heads/main".to_owned();
    for (source, args, env, user) in [
        (
            "kubeconfig",
            &["--service-account", &account][..],
            &[("KUBECONFIG", kubeconfig)][..],
            &service_account,
        ),
        ("file", &[], &[("OPENDEPOT_TOKEN_FILE", token_file)], &service_account),
        ("GitHub Actions", &[], &job, &repository),
    ] {
        for client in stage.clients(args, env) {
            let (at, elsewhere) = (users(private).len(), users(public).len());
            client.configure(&both).unwrap();
            let said = client.run(&["init"]).unwrap_or_else(|error| panic!("{source}: {error:#}"));
            assert!(client.module("net").join("main.tf").is_file(), "{source}: {said}");
            assert_eq!(users(private)[at..], *std::slice::from_ref(user), "{source}");
            assert_eq!(users(public)[elsewhere..], ["system:anonymous"], "{source}");
        }
    }

    // For another host alone no source is looked at, also where it cannot work.
    let asked = stage.github.count("/idtoken/1/2");
    let missing = stage.folder.path().join("missing");
    let missing = missing.to_str().unwrap();
    for (args, env) in [
        (&["--service-account", &account][..], &[("KUBECONFIG", missing)][..]),
        (&[], &[("OPENDEPOT_TOKEN_FILE", missing)]),
        (&[], &job),
        (&[], &[]),
    ] {
        for client in stage.clients(args, env) {
            client.configure(&stage.module(public, "open")).unwrap();
            client.run(&["init"]).unwrap();
            client.configure(&both).unwrap();
            if env != job {
                // A helper that fails gives no token.
                let error = format!("{:#}", client.run(&["init", "-upgrade"]).unwrap_err());
                assert!(error.contains("401"), "{error}");
            }
        }
    }
    assert_eq!(stage.github.count("/idtoken/1/2"), asked);
    assert!(users(public).iter().all(|user| user == "system:anonymous"));

    refused_token_files(&stage).await;
    let token = std::fs::read_to_string(token_file).unwrap();
    for registry in [private, public] {
        registry.tells_none_of(world, &[token.trim(), REQUEST_TOKEN]).await;
    }
}

/// A file with a token for something else, which its host must never see.
async fn refused_token_files(stage: &Stage) {
    let (world, private) = (&stage.world, &stage.private);
    let cluster = world.kubectl(&["create", "token", "ci"]).trim().to_owned();
    let other = world.token(&stage.public.host, "ci");
    for (what, token, expected) in [
        ("of the cluster", &*cluster, "the token is not for"),
        ("for another host", &*other, "the token is not for"),
        ("two words", "two words", "write one token into the file"),
        ("empty", "", "write one token into the file"),
    ] {
        let path = stage.folder.path().join("refused");
        std::fs::write(&path, token).unwrap();
        let before = private.reviews(world).await;
        for client in stage.clients(&[], &[("OPENDEPOT_TOKEN_FILE", path.to_str().unwrap())]) {
            // Without a token from the helper, both clients send a request without one, and print the registry's 401 alone.
            client.configure(&stage.module(private, "net")).unwrap();
            let error = format!("{:#}", client.run(&["init", "-no-color"]).unwrap_err());
            let error = error.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
            let name = client.name();
            let required = "401 token required: write a credentials block for 127.0.0.1:";
            assert!(error.contains(required), "{name}, {what}: {error}");
            assert!(!error.contains(expected), "{name}, {what}: it prints what the helper says: {error}");
        }
        assert_eq!(private.reviews(world).await, before, "{what}: the registry has seen the token");
        let helper = Command::new(env!("CARGO_BIN_EXE_opendepot"))
            .args(["credentials", "--host", &private.host, "get", &private.host])
            .env_clear()
            .env("OPENDEPOT_TOKEN_FILE", &path)
            .output()
            .unwrap();
        let error = String::from_utf8(helper.stderr).unwrap();
        assert!(!helper.status.success() && helper.stdout.is_empty(), "{what}");
        assert!(error.contains("OPENDEPOT_TOKEN_FILE") && error.contains(expected), "{what}: {error}");
        assert!(token.is_empty() || !error.contains(token), "{what}: the token is shown");
    }
}

#[test]
fn the_helper_rejects_a_kubeconfig_with_a_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = json!({"server": "https://127.0.0.1:1", "proxy-url": "http://127.0.0.1:1"});
    let kubeconfig = kubeconfig_for(folder.path(), &cluster);
    let args = ["credentials", "--host", NAMED, "--service-account", "ci/terraform", "get", NAMED];
    let said = opendepot(&kubeconfig).run(&args).failed();
    assert!(said.contains("service account ci/terraform: the kubeconfig names a proxy-url"), "{said}");
}

fn token_of(outcome: &JobOutcome) -> &str {
    let [(name, token)] = &*outcome.env else { panic!("{:?}", outcome.env) };
    assert_eq!(name, "TF_TOKEN_my__registry_acme__corp_test");
    token
}

#[tokio::test]
async fn the_login_action_lets_later_steps_install() {
    let stage = Stage::new("login-action").await;
    let job = |host: &str| {
        let runner = stage
            .job()
            .into_iter()
            .fold(Runner::new().unwrap(), |runner, (name, value)| runner.with_env(name, value));
        stage.login(runner, host)
    };
    let outcome = job(&NAMED.replacen('m', "M", 1));
    assert!(outcome.success, "{}", outcome.log);
    let token = token_of(&outcome);
    assert!(
        !outcome.log.contains(token) && outcome.log.contains("TF_TOKEN_my__registry_acme__corp_test=***"),
        "{}",
        outcome.log
    );
    assert!(!outcome.log.contains(REQUEST_TOKEN));

    // The clients find it by that name. The host has no address: their settings name its services.
    let services = format!(
        "host \"{NAMED}\" {{\n  services = {{ \"modules.v1\" = \"https://{}/v1/modules/\" }}\n}}\n",
        stage.private.host
    );
    let module = stage.module(&stage.private, "net").replace(&stage.private.host, NAMED);
    for client in Terraform::both().unwrap() {
        let client = client.env("SSL_CERT_FILE", &stage.trusted).env(&*outcome.env[0].0, token);
        append(&client, &services);
        client.configure(&module).unwrap();
        client.run(&["init"]).unwrap();
        assert!(client.module("net").join("main.tf").is_file());
    }
    assert!(users(&stage.private).iter().all(|user| user == "github:repo:acme/infra:ref:refs/heads/main"));

    // What it cannot do, it says, and sets nothing.
    let with = |pairs: &[(&str, &str)]| {
        pairs.iter().fold(Runner::new().unwrap(), |runner, (name, value)| runner.with_env(name, *value))
    };
    let [(url, address), (secret, _)] = stage.job();
    let elsewhere = format!("{}/elsewhere?api-version=2.0", stage.github.url);
    for (what, outcome, expected) in [
        ("no permission", stage.login(with(&[]), NAMED), "add 'permissions: id-token: write'"),
        ("a port", job("registry.test:8443"), "without https:// and without a port"),
        ("a URL", job("https://registry.test"), "without https:// and without a port"),
        ("a command", job("a;id"), "without https:// and without a port"),
        (
            "refused",
            stage.login(with(&[(url, &address), (secret, "wrong")]), NAMED),
            "GitHub issued no token",
        ),
        (
            "nowhere",
            stage.login(with(&[(url, &elsewhere), (secret, REQUEST_TOKEN)]), NAMED),
            "GitHub issued no token",
        ),
        (
            "plain HTTP",
            stage.login(with(&[(url, &address.replace("https", "http")), (secret, REQUEST_TOKEN)]), NAMED),
            "GitHub issued no token",
        ),
        (
            "no token in the answer",
            stage.login(
                with(&[(url, &format!("{}/.well-known/jwks?a=b", stage.github.url)), (secret, "x")]),
                NAMED,
            ),
            "GitHub's answer has no token",
        ),
    ] {
        assert!(
            !outcome.success && outcome.log.contains("::error title=Not logged in::"),
            "{what}: {}",
            outcome.log
        );
        assert!(outcome.log.contains(expected) && outcome.env.is_empty(), "{what}: {}", outcome.log);
        assert!(!outcome.log.contains(REQUEST_TOKEN), "{what}");
    }
}

//! `docs/consume.md`: both clients install as the page says, and each message in it is one that the product or a client prints.
//! `docs/migration.md`: its commands rewrite the sources of consumers.

use std::path::Path;

use opendepot_testbed::markdown::{blocks, rows};
use opendepot_testbed::terraform::Terraform;

use crate::docs;
use crate::support::token_registry::{Registry, RegistryBuilder};
use crate::support::{World, key, root, soon};

/// The pages whose commands are run here.
pub(crate) const PAGES: [&str; 2] = [PAGE, "docs/migration.md"];
const PAGE: &str = "docs/consume.md";

/// The configuration of a consumer that uses no registry yet.
pub(crate) async fn sources(world: &World) -> String {
    let stored = key(&world.version_ready("terraform-aws-eks-21.11.0").await);
    format!(
        r#"
module "a" {{
  source = "git::https://github.com/acme/terraform-aws-eks.git//modules/karpenter?ref=v21.12.0"
}}
module "b" {{
  source  = "git@github.com:acme/terraform-aws-eks.git?ref=21.13.0-rc.1&depth=1"
}}
module "c" {{
  source = "github.com/acme/terraform-aws-eks?ref=main"
}}
module "d" {{
  source = "s3::https://s3-us-west-2.amazonaws.com/{0}/{stored}//modules/karpenter"
}}
module "e" {{
  source = "s3::https://s3-us-west-2.amazonaws.com/{0}/terraform-aws-eks/gone.zip"
}}
"#,
        world.name
    )
}

/// A block of the page with this text in it, for the registry and the Module of this test.
fn block(containing: &str, world: &World, host: &str) -> String {
    let all = blocks(&root().join(PAGE)).unwrap();
    let found = all.into_iter().find(|block| block.text.contains(containing)).unwrap();
    let text = docs::here(&found.text, world).replace("registry.acme.io", host);
    text.replace("platform/eks/aws", &format!("{}/terraform-aws-eks/aws", world.name))
}

/// A registry with the page's identity providers.
async fn registry(world: &World, folder: &Path) -> Registry {
    let builder = RegistryBuilder::new(world);
    let path = folder.join("auth-config.yaml");
    let config = block("AuthenticationConfiguration", world, &builder.host);
    std::fs::write(&path, config).unwrap();
    let tokens = folder.join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let sum =
        ["get", "secret", "opendepot-registry-tokens", "-o", "go-template={{.data.renovate | base64decode}}"];
    std::fs::write(tokens.join("renovate"), world.kubectl(&sum)).unwrap();
    let args = ["--auth-config", path.to_str().unwrap(), "--tokens-dir", tokens.to_str().unwrap()];
    builder.args(&args).start().await
}

/// What a client prints when it fails, on one line.
fn error(client: &Terraform) -> String {
    client.forget().unwrap();
    let error = client.run(&["init", "-no-color", "-input=false"]).unwrap_err().to_string();
    error.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn both_clients_install_as_the_page_says_and_print_its_errors() {
    let (world, _operator, home) = docs::run(PAGE).await;
    let registry = registry(&world, home.path()).await;
    let address = world.address("terraform-aws-eks").await;
    let token = std::fs::read_to_string(home.path().join("renovate.token")).unwrap();
    let listed = registry.versions(&address, token.trim()).await.unwrap();
    assert_eq!(listed, ["21.12.0", "21.11.0", "21.10.1"]);
    let module = block("version = \"~> 21.0\"", &world, &registry.host);
    let settings = home.path().join("settings.tfrc");
    std::fs::write(&settings, block("credentials_helper \"", &world, &registry.host)).unwrap();
    for client in Terraform::both().unwrap() {
        let name = client.name();
        let client = client.env("SSL_CERT_FILE", registry.ca_file.as_os_str());
        client.configure(&module).unwrap();
        // Before the helper is set up.
        let refused = error(&client);
        let required = format!("token required: write a credentials block for {}", registry.host);
        assert!(refused.contains(&required), "{name}: {refused}");
        let client = client
            .env("HOME", home.path())
            .env("TF_CLI_CONFIG_FILE", settings.as_os_str())
            .env("KUBECONFIG", world.bed.kubernetes.admin_kubeconfig());
        client.run(&["init", "-no-color", "-input=false"]).unwrap();
        let text = std::fs::read_to_string(client.module("eks").join("main.tf")).unwrap();
        assert_eq!(text, "# 21.12.0\n", "{name}");
        for (from, to, message) in [
            ("~> 21.0", "~> 99.0", "Unresolvable module version constraint"),
            ("/terraform-aws-eks/", "/nothing/", "Module not found"),
            (&*world.name, "kube-system", "403 Forbidden: no permission to download this module"),
        ] {
            client.configure(&module.replace(from, to)).unwrap();
            // While the API server is slow, the registry says that, and the client has to be run again.
            soon(|| async {
                let refused = error(&client);
                anyhow::ensure!(refused.contains(message), "{name}: {refused}");
                Ok(())
            })
            .await;
        }
    }
}

#[test]
fn every_message_in_the_page_is_printed_and_every_reason_phrase_is_in_the_page() {
    let read = |path: &str| {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        // Texts in the code continue on the next line.
        text.split("\\\n").map(str::trim_start).collect::<String>()
    };
    let denied = read("src/registry/auth/denied.rs");
    let others = ["responses.rs", "http/rules.rs", "archive/downloads.rs", "credentials/mod.rs"];
    let mut printed = others.map(|path| read(&format!("src/registry/{path}"))).concat();
    printed += &denied;
    printed += &read(".github/actions/login/login.sh");
    // Of the clients; the quickstart prints the first one, the test above the next two, registry_install.rs the others.
    printed += "Checksums did not match, Unresolvable module version constraint, Module not found, ";
    printed += "bad response code: 403, bad response code: 404, bad response code: 503";
    let rows = rows(&root().join(PAGE), "Errors").unwrap();
    assert!(rows.len() > 40, "{rows:?}");
    for message in &rows {
        assert!(printed.contains(message.as_str()), "{PAGE} has a message that nothing prints: {message}");
    }
    let downloads = read("src/registry/archive/downloads.rs");
    let phrases = denied.lines().filter_map(|line| line.split_once('"')?.1.split_once('"'));
    let unavailable = downloads.split("unavailable(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let phrases = phrases.map(|(phrase, _)| phrase).chain(unavailable);
    let phrases: Vec<&str> = phrases.collect();
    assert!(phrases.len() > 25, "{phrases:?}");
    for phrase in phrases {
        assert!(rows.iter().any(|row| row == phrase), "{PAGE} does not explain: {phrase}");
    }
}

#[tokio::test]
async fn the_commands_for_migration_rewrite_the_sources_of_consumers() {
    let (world, _operator, folder) = docs::run("docs/migration.md").await;
    // Once more, with a Version that is not stored: it has no object, so it changes no source.
    let add = r#"[{"op": "add", "path": "/spec/versions/-", "value": {"version": "99.0.0"}}]"#;
    world.kubectl(&["patch", "modules.opendepot.defdev.io/terraform-aws-eks", "--type=json", "-p", add]);
    world.version_when("terraform-aws-eks-99.0.0", |version| version["status"]["storage"].is_null()).await;
    let blocks = blocks(&root().join("docs/migration.md")).unwrap();
    let of_s3 = blocks.iter().find(|block| block.text.contains("read -r object version")).unwrap();
    world.shell_in(folder.path(), &docs::here(&of_s3.text, &world));
    let text = std::fs::read_to_string(folder.path().join("main.tf")).unwrap();
    let stays = [
        "github.com/acme/terraform-aws-eks?ref=main".to_owned(),
        format!("s3::https://s3-us-west-2.amazonaws.com/{}/terraform-aws-eks/gone.zip", world.name),
    ];
    for [source, version] in [
        ["registry.acme.io/platform/eks/aws//modules/karpenter", "21.12.0"],
        ["registry.acme.io/platform/eks/aws", "21.13.0-rc.1"],
        ["registry.acme.io/platform/eks/aws//modules/karpenter", "21.11.0"],
    ] {
        let lines = format!(" = \"{source}\"\n  version");
        assert!(text.contains(&lines) && text.contains(&format!(" = \"{version}\"\n}}")), "{text}");
    }
    for source in stays {
        assert!(text.contains(&format!("source = \"{source}\"\n}}")), "{text}");
    }
    let address = world.address("terraform-aws-eks").await;
    assert_eq!(address, format!("{}/terraform-aws-eks/aws", world.name));
}

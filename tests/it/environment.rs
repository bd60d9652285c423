//! Environment variables that are empty, or that two commands read, through the built binary. No command gets as far as a server.

use std::path::Path;

use clap::CommandFactory as _;
use opendepot::cli::Cli;
use serde_json::json;

use crate::support::command::{Opendepot, opendepot};

/// No kubeconfig, and all variables of all flags empty.
fn empty() -> Opendepot {
    let cli = Cli::command();
    let flags = cli.get_subcommands().flat_map(clap::Command::get_arguments);
    let mut names: Vec<String> =
        flags.filter_map(|flag| Some(flag.get_env()?.to_str()?.to_owned())).collect();
    names.extend(["GITHUB_ACTIONS".to_owned(), "AWS_ENDPOINT_URL_S3".to_owned()]);
    assert!(names.len() > 50, "{names:?}");
    names.iter().fold(opendepot(Path::new("/nonexistent/kubeconfig")), |command, name| command.env(name, ""))
}

#[test]
fn an_empty_variable_is_as_one_that_is_not_set() {
    let listen = ["--listen", "127.0.0.1:0"];
    for (args, expected) in [
        ([&["run", "--allow-storage", "*=*"][..], &listen].concat(), "set KUBECONFIG"),
        (
            [&["serve", "--admin-listen", "127.0.0.1:0", "--allow-storage", "*=*"][..], &listen].concat(),
            "set KUBECONFIG",
        ),
        (vec!["check", "--ca-file", "/nonexistent"], "cannot read /nonexistent"),
        (vec!["publish", "net", "1.0.0"], "no Kubernetes cluster is configured"),
        (vec!["source", "net"], "no Kubernetes cluster is configured"),
    ] {
        let printed = empty().run(&args);
        assert_eq!(printed.stdout, "", "{args:?}");
        let error = printed.failed();
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    // What is required is required, and no empty rule removes all restrictions.
    let run = empty().run(&[&["run"][..], &listen].concat());
    assert!(run.code == Some(2) && run.stderr.contains("--allow-storage"), "{run:#?}");
    let serve = empty().run(&[&["serve"][..], &listen].concat());
    assert!(serve.code == Some(2) && serve.stderr.contains("--allow-storage"), "{serve:#?}");
    assert!(empty().run(&["run", "--help"]).ok().contains("[env: OPENDEPOT_NAMESPACE=]"));
    let helper = empty().run(&["credentials", "get", "registry.acme.io"]);
    assert!(helper.stderr.starts_with("opendepot: no token for \"registry.acme.io\""), "{helper:#?}");
    assert_eq!(helper.ok(), "{}\n");
}

#[test]
fn a_damaged_kubeconfig_is_not_replaced_by_the_account_of_a_pod() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, "current-context: gone\n").unwrap();
    let open = ["--allow-storage", "*=*", "--listen", "127.0.0.1:0"];
    for args in [
        vec!["publish", "net", "1.0.0"],
        vec!["source", "net"],
        [&["run"][..], &open].concat(),
        [&["serve", "--admin-listen", "127.0.0.1:0"][..], &open].concat(),
    ] {
        let pod = [("KUBERNETES_SERVICE_HOST", "127.0.0.1"), ("KUBERNETES_SERVICE_PORT", "1")];
        let command = pod.iter().fold(opendepot(&path), |command, (name, value)| command.env(name, value));
        let error = command.run(&args).failed();
        assert!(error.contains("the kubeconfig cannot be used: "), "{args:?}: {error}");
        assert!(!error.contains("service account"), "{args:?}: {error}");
    }
}

#[test]
fn no_command_prints_a_secret_of_the_kubeconfig() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let run = |user: &str, args: &[&str]| {
        let text = format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nclusters: [{{name: a, cluster: \
             {{server: 'https://me:S3CR3T@127.0.0.1:1'}}}}]\nusers: [{{name: a, user: {user}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        let command = opendepot(&path).env("HTTPS_PROXY", "http://127.0.0.1:1");
        let command = command.env("AWS_EC2_METADATA_DISABLED", "true").env("GITHUB_ACTIONS", "true");
        let printed = command.run(args);
        assert_eq!(printed.code, Some(1), "{args:?}: {printed:#?}");
        let text = printed.stdout + &printed.stderr;
        assert!(!text.contains("S3CR3T"), "{args:?}: {text}");
        text
    };
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "interactiveMode": "Never",
        "args": ["-c", "echo S3CR3T; echo S3CR3T >&2; exit 3", "S3CR3T"],
        "env": [{"name": "KEY", "value": "S3CR3T"}],
    });
    let open = ["--allow-storage", "*=*", "--listen", "127.0.0.1:0"];
    for args in [
        vec!["publish", "net", "1.0.0"],
        vec!["source", "net"],
        vec!["deprecate", "net", "1.0.0", "old"],
        vec!["credentials", "--host", "a.io", "--service-account", "ci/terraform", "get", "a.io"],
        vec!["check"],
        [&["run"][..], &open].concat(),
        [&["serve", "--admin-listen", "127.0.0.1:0"][..], &open].concat(),
    ] {
        let failed = run(&format!("{{exec: {exec}}}"), &args);
        let expected = "the kubeconfig's command /bin/sh failed (exit status: 3)";
        assert!(failed.contains(expected), "{args:?}: {failed}");
        let damaged = run("{token: S3CR3T, token: S3CR3T}", &args);
        assert!(damaged.contains("duplicate mapping key: token"), "{args:?}: {damaged}");
    }
    let refused = run("{}", &["check"]);
    assert!(refused.contains("https://127.0.0.1:1/: ") && refused.contains("onnection refused"), "{refused}");
}

#[test]
fn the_hosts_of_the_credentials_helper_are_a_choice_for_the_module_block() {
    let hosts = || opendepot(Path::new("/nonexistent/kubeconfig")).env("OPENDEPOT_HOST", "a.io,b.io");
    let several = hosts().run(&["source", "net"]);
    assert_eq!(several.code, Some(2), "{several:#?}");
    assert!(several.stderr.contains("write one host, such as --registry a.io"), "{several:#?}");
    let chosen = hosts().run(&["source", "net", "--registry", "b.io"]).failed();
    assert!(chosen.contains("no Kubernetes cluster is configured"), "{chosen}");

    // For another host the helper looks at no source; for its own, it does.
    for variables in [
        &[("OPENDEPOT_SERVICE_ACCOUNT", "ci"), ("OPENDEPOT_TOKEN_FILE", "")][..],
        &[("OPENDEPOT_SERVICE_ACCOUNT", "a/b/c"), ("OPENDEPOT_TOKEN_FILE", "/nonexistent")],
    ] {
        let helper = || variables.iter().fold(hosts(), |command, (name, value)| command.env(name, value));
        assert_eq!(helper().run(&["credentials", "get", "app.terraform.io"]).ok(), "{}\n", "{variables:?}");
        let own = helper().run(&["credentials", "get", "b.io"]).failed();
        let expected = if variables[1].1.is_empty() { "such as team-a/terraform" } else { "/nonexistent: " };
        assert!(own.contains(expected), "{own}");
    }
}

#[test]
fn an_empty_endpoint_is_none_for_s3() {
    // No name is looked up, and nothing is sent: the proxy refuses connections.
    let command = empty().env("HTTPS_PROXY", "http://127.0.0.1:1").env("AWS_REGION", "us-west-2");
    let command = command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    let bucket = ["--bucket", "modules", "--github-host", "127.0.0.1:1"];
    let printed = command.run(&[&["check"][..], &bucket].concat());
    let line = printed.stdout.lines().find(|line| line.contains(" bucket ")).unwrap_or_default();
    assert!(line.contains("no answer from S3") && !line.contains("valid URI"), "{printed:#?}");
}

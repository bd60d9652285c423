//! The texts of kube's errors without the secrets that they quote: variables, arguments and output of the kubeconfig's command,
//! the lines around damaged YAML, and lines of a private key.

use std::error::Error;

use kube::client::{AuthError, RustlsTlsError};
use kube::config::KubeconfigError;

use crate::domain::text::{causes, error_chain};

/// The text of an error and its causes.
pub(super) fn without_secrets(error: &(dyn Error + 'static)) -> String {
    error_chain(error).find_map(replacement).unwrap_or_else(|| causes(error))
}

/// The text in place of one that quotes. The texts of errors with this cause quote it too.
fn replacement(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(KubeconfigError::Parse(cause)) = error.downcast_ref::<KubeconfigError>() {
        let problem = cause.without_snippet().to_string();
        // kube accepts at most 32 lines of comments in one place.
        let advice =
            if problem.contains("too many buffered comments") { "; remove comments there" } else { "" };
        return Some(format!("failed to parse kubeconfig YAML: {problem}{advice}"));
    }
    if let Some(RustlsTlsError::InvalidIdentityPem(_)) = error.downcast_ref::<RustlsTlsError>() {
        let text = "the client certificate or key is not valid PEM; check client-certificate and client-key in the \
                    kubeconfig, or the output of its command";
        return Some(text.to_owned());
    }
    match error.downcast_ref::<AuthError>()? {
        AuthError::AuthExecRun { cmd, out } => Some(format!(
            "the kubeconfig's command {} failed ({}); to see its messages, run `kubectl get --raw /livez`",
            program(cmd),
            out.status
        )),
        AuthError::AuthExecParse(cause) => Some(format!(
            "the kubeconfig's command (users[].user.exec) printed no ExecCredential: {}",
            cause.without_snippet()
        )),
        _ => None,
    }
}

/// The program of a command line as kube writes it: `NAME="value" "program" "argument"` without the variables on Windows, and
/// `program argument` for the provider `gcp`.
fn program(line: &str) -> &str {
    let first = line.split('"').next().unwrap_or_default();
    if first.contains(' ') {
        return line.split(' ').next().unwrap_or_default();
    }
    let mut is_escaped = false;
    let is_quote = |character: char| {
        let ends = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        ends
    };
    let parts: Vec<&str> = line.split(is_quote).collect();
    let program = parts.chunks(2).find_map(|pair| match pair {
        [before, quoted] if before.trim().is_empty() => Some(*quoted),
        _ => None,
    });
    program.unwrap_or_default()
}

#[cfg(test)]
#[cfg(not(windows))]
mod tests {
    use kube::config::{KubeConfigOptions, Kubeconfig};
    use kube::{Client, Config};
    use rustls::pki_types::pem;
    use serde_json::json;

    use super::*;

    const SECRET: &str = "S3CR3T";

    /// Why this user of a kubeconfig has no client. A failure at the renewal of a token has the same text, unless the command
    /// does not exist: kube's own text then begins differently.
    async fn failure(user: &str) -> String {
        let text = format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nclusters: [{{name: a, cluster: \
             {{server: 'http://127.0.0.1:1'}}}}]\nusers:\n- name: a\n  user:\n    {user}\n"
        );
        let kubeconfig = match Kubeconfig::from_yaml(&text) {
            Ok(kubeconfig) => kubeconfig,
            Err(error) => return without_secrets(&error),
        };
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        config.proxy_url = None;
        let error = Client::try_from(config).err().unwrap();
        let text = without_secrets(&error);
        if let kube::Error::Auth(cause) = error {
            let renewal = without_secrets(&kube::Error::Service(Box::new(cause)));
            assert!(renewal == text || renewal.contains("os error 2"), "{renewal}");
        }
        text
    }

    /// A user whose command is this script.
    fn script(script: &str) -> String {
        let secret = format!("a\" \"{SECRET}\" \\");
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "interactiveMode": "Never",
            "args": ["-c", script, format!("--client-secret={SECRET}"), SECRET],
            "env": [{"name": "A_KEY", "value": secret}, {"name": "Z_KEY", "value": secret}],
        });
        format!("exec: {exec}")
    }

    #[tokio::test]
    async fn no_text_contains_a_secret_of_the_kubeconfig_or_of_its_command() {
        let gcp = r#"auth-provider: {name: gcp, config: {cmd-path: /bin/sh, cmd-args: '-c S3CR3T="S3CR3T'}}"#;
        let failed = "the kubeconfig's command /bin/sh failed";
        let printed = "printed no ExecCredential: ";
        let yaml = "failed to parse kubeconfig YAML: ";
        for (user, expected) in [
            (script("echo S3CR3T; echo S3CR3T >&2; exit 3"), format!("{failed} (exit status: 3)")),
            (script("kill -9 $$"), format!("{failed} (signal: 9 (SIGKILL))")),
            (gcp.to_owned(), format!("{failed} (exit status: ")),
            (script("echo S3CR3T"), printed.to_owned()),
            (script("echo WARNING: a new version: 2.0 is out; echo '{token: S3CR3T}'"), printed.to_owned()),
            (script("echo '{\"status\": {\"token\": \"S3CR3T\"'"), printed.to_owned()),
            ("token: S3CR3T\n    token: S3CR3T".to_owned(), format!("{yaml}duplicate mapping key: token")),
            ("token: S3CR3T\n\tusername: a".to_owned(), yaml.to_owned()),
            ("token: \"S3CR3T\n    username: a".to_owned(), format!("{yaml}unclosed quote")),
            (format!("{}token: S3CR3T", "# S3CR3T\n    ".repeat(40)), "; remove comments there".to_owned()),
            ("exec: {command: /nonexistent/S, args: [S3CR3T]}".to_owned(), "No such file".to_owned()),
        ] {
            let text = failure(&user).await;
            assert!(text.contains(&expected) && !text.contains(SECRET), "{user}: {text}");
        }
    }

    #[test]
    fn no_text_contains_a_line_of_a_private_key() {
        let line = format!("-----BEGIN PRIVATE KEY----- {SECRET}").into_bytes();
        let pem = RustlsTlsError::InvalidIdentityPem(pem::Error::IllegalSectionStart { line });
        let text = without_secrets(&kube::Error::RustlsTls(pem));
        assert!(text.contains("is not valid PEM") && !text.contains("83, 51, 67"), "{text}");
    }

    #[test]
    fn a_program_is_found_without_variables_too() {
        for (line, expected) in [
            (r#""C:\\kubelogin.exe" "get-token" "S3CR3T""#, r"C:\\kubelogin.exe"),
            (r#"gcloud config --format="S3CR3T" "S3CR3T""#, "gcloud"),
            ("", ""),
        ] {
            assert_eq!(program(line), expected);
        }
    }
}

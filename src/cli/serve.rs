//! Flags of `opendepot serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args};
use ipnet::IpNet;
use url::{Position, Url};

use super::{listen, log_level, namespace};
use crate::command::arguments::valid;
use crate::domain::Endpoint;
use crate::observe::telemetry::LogFormat;
use crate::registry::aliases::Alias;
use crate::registry::archive::{DownloadMode, PublicEndpoint};
use crate::registry::session::LoginSettings;
use crate::storage::StorageRule;

/// Flags of `opendepot serve`.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// External base URL, such as `https://registry.acme.io`: the audience of tokens, and the start of archive links.
    #[arg(long, env = "OPENDEPOT_URL", value_name = "URL", value_parser = base_url)]
    pub url: Option<Url>,

    /// Address of the registry. An IPv6 address accepts IPv4 too; without IPv6, [::] means 0.0.0.0.
    #[arg(long, env = "OPENDEPOT_LISTEN", default_value = "[::]:8443", value_name = "ADDRESS:PORT",
        value_parser = listen)]
    pub listen: SocketAddr,

    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "OPENDEPOT_ADMIN_LISTEN", default_value = "[::]:8080", value_name = "ADDRESS:PORT",
        value_parser = listen)]
    pub admin_listen: SocketAddr,

    /// PEM file with the certificate, followed by its issuers. Read again every 30s. Default: HTTP, for use behind an ingress.
    #[arg(long, env = "OPENDEPOT_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,

    /// PEM file with the private key of the certificate.
    #[arg(long, env = "OPENDEPOT_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,

    /// Audience of tokens of service accounts. Default: HOST[:PORT] of --url.
    #[arg(long, env = "OPENDEPOT_AUDIENCE", value_name = "AUDIENCE")]
    pub audience: Option<String>,

    /// File with identity providers whose JWTs are accepted, in the format of Kubernetes' `AuthenticationConfiguration`.
    #[arg(long, env = "OPENDEPOT_AUTH_CONFIG", value_name = "FILE")]
    pub auth_config: Option<PathBuf>,

    /// Folder with static tokens, such as a mounted Secret: one file per token, which contains sha256:HEX of it.
    #[arg(long, env = "OPENDEPOT_TOKENS_DIR", value_name = "DIR")]
    pub tokens_dir: Option<PathBuf>,

    /// Answer requests without a token as system:anonymous, with the downloads that RBAC allows to system:unauthenticated.
    #[arg(long, env = "OPENDEPOT_ANONYMOUS", value_name = "true|false", default_value_t = false,
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub anonymous: bool,

    /// Identity provider for signing in to the pages and for `terraform login`: the URL of an issuer in --auth-config.
    #[arg(long, env = "OPENDEPOT_LOGIN_ISSUER", value_name = "URL", requires_all = ["login_client", "auth_config", "url"])]
    pub login_issuer: Option<String>,

    /// Client ID that is registered at the identity provider for this registry only: a public client, without a secret.
    #[arg(long, env = "OPENDEPOT_LOGIN_CLIENT", value_name = "CLIENT", requires = "login_issuer",
        value_parser = NonEmptyStringValueParser::new())]
    pub login_client: Option<String>,

    /// Scopes to request from the identity provider, such as openid,groups.
    #[arg(long, env = "OPENDEPOT_LOGIN_SCOPES", value_delimiter = ',', default_value = "openid", value_name = "SCOPES",
        value_parser = scope)]
    pub login_scopes: Vec<String>,

    /// File with the key of archive links: a line of 32 or more random characters; a second line is the previous key. Default:
    /// a random key: its links and sessions are invalid on other replicas and after a restart.
    #[arg(long, env = "OPENDEPOT_LINK_KEY_FILE", value_name = "FILE")]
    pub link_key_file: Option<PathBuf>,

    /// How archives reach clients. auto: redirect to AWS and to each --public-endpoint, stream from other stores.
    #[arg(long, env = "OPENDEPOT_DOWNLOAD", value_enum, default_value_t = DownloadMode::Auto)]
    pub download: DownloadMode,

    /// Address OUTSIDE at which clients reach the S3 endpoint INSIDE, for redirects of downloads (repeatable).
    #[arg(long, env = "OPENDEPOT_PUBLIC_ENDPOINT", value_delimiter = ',', value_name = "INSIDE=OUTSIDE")]
    pub public_endpoint: Vec<PublicEndpoint>,

    /// Maximum number of archives that are streamed concurrently.
    #[arg(long, env = "OPENDEPOT_MAX_STREAMS", default_value_t = 64, value_parser = super::at_least_one)]
    pub max_streams: u16,

    /// Namespace to watch (repeatable, or comma-separated). Default: all namespaces.
    #[arg(long = "namespace", env = "OPENDEPOT_NAMESPACE", value_delimiter = ',', value_parser = namespace)]
    pub namespaces: Vec<String>,

    /// Alias of a namespace in addresses, such as acme=opendepot-system (repeatable).
    #[arg(long, env = "OPENDEPOT_NAMESPACE_ALIAS", value_delimiter = ',', value_name = "ALIAS=NAMESPACE")]
    pub namespace_alias: Vec<Alias>,

    /// Allow archives of a namespace in a bucket: NAMESPACE=BUCKET[/PREFIX]; `*` matches every namespace or bucket (repeatable).
    /// Others are not served. Required: `*=*` allows all.
    #[arg(
        long,
        env = "OPENDEPOT_ALLOW_STORAGE",
        value_delimiter = ',',
        value_name = "NAMESPACE=BUCKET[/PREFIX]",
        required = true
    )]
    pub allow_storage: Vec<StorageRule>,

    /// Allow archives at an S3 endpoint (repeatable). AWS and `AWS_ENDPOINT_URL_S3` are always allowed.
    #[arg(long, env = "OPENDEPOT_S3_ENDPOINT", value_delimiter = ',', value_name = "URL")]
    pub s3_endpoint: Vec<Endpoint>,

    /// Folder for archives whose documentation is read, up to 700 MiB. Default: the system's temporary folder.
    #[arg(long, env = "OPENDEPOT_SPOOL_DIR", value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,

    /// PEM file with CA certificates for S3 and identity providers, in addition to the system's.
    #[arg(long, env = "OPENDEPOT_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Network of a proxy whose X-Forwarded-For is trusted, such as 10.0.0.0/8 (repeatable).
    #[arg(long, env = "OPENDEPOT_TRUSTED_PROXY", value_delimiter = ',', value_name = "CIDR", value_parser = network)]
    pub trusted_proxy: Vec<IpNet>,

    /// How long the registry continues to serve after SIGTERM, while the endpoints of the Service are updated.
    #[arg(long, env = "OPENDEPOT_DRAIN", default_value = "10s", value_parser = drain)]
    pub drain: Duration,

    /// Count downloads per module, for at most 500 modules.
    #[arg(long, env = "OPENDEPOT_MODULE_METRICS", value_name = "true|false", default_value_t = true,
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub module_metrics: bool,

    /// Log format. Default: json in a cluster, text elsewhere.
    #[arg(long, env = "OPENDEPOT_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Log level: error, warn, info, debug or trace, or a filter such as info,opendepot=debug.
    #[arg(long, env = "OPENDEPOT_LOG_LEVEL", default_value = "info", value_parser = log_level)]
    pub log_level: String,
}

impl Serve {
    /// Settings of signing in, if there is an identity provider.
    pub fn login(&self) -> Option<LoginSettings> {
        let (issuer, client) = (self.login_issuer.clone()?, self.login_client.clone()?);
        Some(LoginSettings { issuer, client, scopes: self.login_scopes.clone() })
    }

    /// `HOST[:PORT]` of `--url`.
    pub fn host(&self) -> Option<String> {
        self.url.as_ref().map(|url| url[Position::BeforeHost..Position::AfterPort].to_owned())
    }
}

fn base_url(text: &str) -> Result<Url, String> {
    let wrong = || "write a URL without a path, such as https://registry.acme.io".to_owned();
    let url: Url = text.parse().map_err(|_| wrong())?;
    let is_origin = url.as_str() == format!("{}/", url.origin().ascii_serialization());
    if matches!(url.scheme(), "http" | "https") && is_origin { Ok(url) } else { Err(wrong()) }
}

/// RFC 6749, 3.3.
fn scope(text: &str) -> Result<String, String> {
    let scope = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    valid(text, scope && !text.is_empty(), "write scopes such as openid,groups")
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse().map(|address: std::net::IpAddr| IpNet::from(address));
    text.parse()
        .or_else(|_| address())
        .map_err(|_| "write a network or an address, such as 10.0.0.0/8".into())
}

fn drain(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|drain| *drain <= Duration::from_mins(10))
        .ok_or_else(|| "write a duration of at most 10m with its unit, such as 10s".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::{Cli, Command, Serve};

    fn serve(arguments: &[&str]) -> Result<Serve, String> {
        let all = ["opendepot", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(all) {
            Ok(Cli { command: Command::Serve(serve) }) => Ok(*serve),
            Ok(_) => Err("another command".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn storage_is_allowed_on_purpose() {
        let message = serve(&[]).unwrap_err();
        assert!(message.contains("--allow-storage"), "{message}");
        assert_eq!(serve(&["--allow-storage", "*=*"]).unwrap().allow_storage.len(), 1);
    }

    #[test]
    fn the_host_of_the_url_is_the_audience() {
        let host = |url: &str| serve(&["--allow-storage", "*=*", "--url", url]).map(|serve| serve.host());
        assert_eq!(host("https://registry.acme.io"), Ok(Some("registry.acme.io".into())));
        assert_eq!(host("https://registry.acme.io:8443/"), Ok(Some("registry.acme.io:8443".into())));
        for url in ["registry.acme.io", "https://a/b", "https://a?b", "https://u@a", "ftp://a", "https://"] {
            assert!(host(url).unwrap_err().contains("such as https://registry.acme.io"), "{url}");
        }
    }

    #[test]
    fn a_bad_value_says_what_to_write() {
        for (flag, value, expected) in [
            ("--namespace-alias", "acme", "ALIAS=NAMESPACE"),
            ("--trusted-proxy", "proxy", "10.0.0.0/8"),
            ("--public-endpoint", "http://minio:9000", "INSIDE=OUTSIDE"),
            ("--drain", "10", "such as 10s"),
            ("--max-streams", "0", "a number from 1"),
            ("--tls-cert-file", "tls.crt", "--tls-key-file"),
            ("--login-issuer", "https://login.acme.io", "--login-client"),
            ("--login-client", "opendepot", "--login-issuer"),
            ("--login-scopes", "openid groups", "openid,groups"),
        ] {
            let message = serve(&["--allow-storage", "*=*", flag, value]).unwrap_err();
            assert!(message.contains(expected), "{flag} {value}: {message}");
        }
    }
}

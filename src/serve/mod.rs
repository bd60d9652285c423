//! The composition root of the registry: creates clients, watches, access control and listeners, and shuts them down.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use reqwest::Certificate;
use tokio::task::JoinSet;

use crate::cli::Serve;
use crate::domain::names::{is_registry_host, unicode_host};
use crate::observe::admin::{self, Admin};
use crate::observe::liveness::Liveness;
use crate::observe::telemetry;
use crate::registry::aliases::{Aliases, InvalidAlias};
use crate::registry::archive::Downloads;
use crate::registry::auth::{Access, AccessSettings, own_token};
use crate::registry::docs::Library;
use crate::registry::handler::Service;
use crate::registry::http::{Limits, Stopper, Tls, TrustedProxies, serve};
use crate::registry::index::watch::{self, Health};
use crate::registry::index::{Fold, Index};
use crate::registry::key_file::CurrentKeys;
use crate::registry::metrics::RegistryMetrics;
use crate::registry::page::{Pages, SendBudget};
use crate::registry::reread;
use crate::registry::session::{Login, Sessions};
use crate::startup::{
    StartupError, ca_certificates, connect, ended, listen, raise_open_files, signalled, storage_rules,
    workdir,
};
use crate::storage::Storage;

/// The limits of the listener, lowered if the process may open only a few files.
fn limits() -> Limits {
    let open_files = raise_open_files();
    let limits = Limits::default().within(open_files);
    if limits.connections < Limits::default().connections {
        tracing::warn!(
            open_files,
            connections = limits.connections,
            "accepts fewer connections: raise the limit of open files (ulimit -n) of the container runtime"
        );
    }
    limits
}

/// Runs the registry until a signal.
#[expect(clippy::too_many_lines, reason = "the steps of a start and a shutdown, in their order")]
pub async fn run(flags: &Serve) -> Result<(), Box<dyn Error>> {
    let limits = limits();
    let listener = listen("--listen", flags.listen)?;
    let admin_listener = listen("--admin-listen", flags.admin_listen)?;
    let mut signal = std::pin::pin!(signalled()?);
    let metrics = RegistryMetrics::default();
    telemetry::count_panics(metrics.panics.clone());
    metrics.max_streams.set(flags.max_streams.into());
    let aliases = Aliases::new(&flags.namespace_alias, &flags.namespaces)?;
    let keys = CurrentKeys::new(flags.link_key_file.clone())?;
    let tls_files = flags.tls_cert_file.as_ref().zip(flags.tls_key_file.as_ref());
    let tls = tls_files.map(|(certificate, key)| Tls::load(certificate, key)).transpose();
    let tls = tls.map_err(|error| format!("--tls-cert-file, --tls-key-file: {error}"))?.map(Arc::new);
    let spool = workdir(flags.spool_dir.as_deref())?;
    let mut tasks = JoinSet::new();
    let liveness = Liveness::default();
    let (config, client, watch_client) = connect().await?;
    let roots = ca_certificates(flags.ca_file.as_deref())?;
    let storage = Storage::for_signed_urls(&roots).await.map_err(StartupError::from)?;
    let rules = storage_rules(&flags.allow_storage, &flags.s3_endpoint, &storage)?;
    let settings = access_settings(flags, roots, &config);
    let access = Access::start(&settings, client, metrics.clone())?;
    let sessions = sessions(flags, &keys, &access, &settings.roots)?;
    let fold = Fold::new(rules, aliases.clone());
    let (index, health) = watch::start(&watch_client, &flags.namespaces, fold, &liveness, &mut tasks);
    let admin = Admin {
        scrape: scraper(metrics.clone(), Arc::clone(&index), Arc::clone(&health), tls.clone()),
        liveness,
        ready: Arc::clone(&health.ready),
    };
    tokio::spawn(admin::serve(admin_listener, admin, std::future::pending()));
    warn_of_settings(flags);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %flags.listen, "started");

    tokio::select! {
        true = health.listed() => {}
        () = &mut signal => return Ok(()),
        ended = ended(&mut tasks, "a watch") => return Err(ended.into()),
    }
    if let Some(alias) = index.states().shadowed {
        return Err(InvalidAlias::Shadows(alias).into());
    }
    let storage = Arc::new(storage);
    let pages = Pages {
        index,
        access,
        aliases,
        sessions,
        library: Library::new(Arc::clone(&storage), spool.path(), metrics.clone()),
        host: source_host(flags),
        send_budget: SendBudget::default(),
    };
    let service = Arc::new(service(flags, pages, keys.clone(), storage, metrics));
    tokio::spawn(keys.watch(reread::INTERVAL));
    if let Some(tls) = &tls {
        tokio::spawn(Arc::clone(tls).watch(reread::INTERVAL));
    }
    let (stopper, stop) = Stopper::new();
    let proxies = TrustedProxies::new(flags.trusted_proxy.clone());
    let mut server = tokio::spawn(serve(listener, tls, limits, proxies, service, stop));
    health.ready.store(true, Ordering::Release);
    tracing::info!("ready");
    tokio::select! {
        () = &mut signal => {}
        ended = ended(&mut tasks, "a watch") => return Err(ended.into()),
        _ = &mut server => return Err(StartupError::Ended("the listener").into()),
    }
    health.ready.store(false, Ordering::Release);
    tracing::info!(drain = %humantime::format_duration(flags.drain), "shutting down");
    stopper.drain();
    tokio::time::sleep(flags.drain).await;
    stopper.close();
    let _ = server.await;
    Ok(())
}

fn access_settings(flags: &Serve, roots: Vec<Certificate>, config: &kube::Config) -> AccessSettings {
    AccessSettings {
        audience: audience(flags),
        auth_config: flags.auth_config.clone(),
        tokens_dir: flags.tokens_dir.clone(),
        anonymous: flags.anonymous,
        login: flags.login_issuer.is_some(),
        roots,
        own_token: own_token(config),
    }
}

/// `--audience`, or its default. An empty value, which a template without a value writes, counts as none.
fn audience(flags: &Serve) -> Option<String> {
    flags.audience.clone().filter(|audience| !audience.is_empty()).or_else(|| flags.host())
}

/// `HOST[:PORT]` of `--url` for the source addresses of modules.
fn source_host(flags: &Serve) -> Option<String> {
    flags.host().map(|host| unicode_host(&host))
}

fn sessions(
    flags: &Serve,
    keys: &CurrentKeys,
    access: &Access,
    roots: &[Certificate],
) -> Result<Sessions, Box<dyn Error>> {
    let sessions = Sessions::new(keys.clone(), flags.url.clone());
    let Some(settings) = flags.login() else { return Ok(sessions) };
    let login = Login::new(settings, access, flags.url.as_ref())?;
    Ok(sessions.with_login(login, roots)?)
}

/// The service that answers requests.
fn service(
    flags: &Serve,
    pages: Pages,
    keys: CurrentKeys,
    storage: Arc<Storage>,
    metrics: RegistryMetrics,
) -> Service {
    let (mode, public) = (flags.download, flags.public_endpoint.clone());
    Service {
        downloads: Downloads::new(storage, mode, public, flags.max_streams.into(), metrics.clone()),
        url: flags.url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned()).unwrap_or_default(),
        module_metrics: flags.module_metrics,
        pages,
        keys,
        metrics,
    }
}

fn warn_of_settings(flags: &Serve) {
    if let Some(host) = source_host(flags).filter(|host| !is_registry_host(host)) {
        tracing::warn!(
            host,
            "Terraform and OpenTofu install from no such --url: use a DNS name with a dot, of letters, digits and dashes"
        );
    }
    if flags.tls_cert_file.is_none() {
        tracing::warn!(
            "the registry serves HTTP: Terraform and OpenTofu use HTTPS only, so terminate TLS at an ingress or gateway, or set \
             --tls-cert-file and --tls-key-file"
        );
    }
    if flags.link_key_file.is_none() {
        tracing::warn!(
            "archive links and sessions have a random key: after a restart, and with several replicas, some downloads \
             fail and people are signed out; set --link-key-file"
        );
    }
}

/// Renders the metrics at each scrape.
fn scraper(
    metrics: RegistryMetrics,
    index: Arc<Index>,
    health: Arc<Health>,
    tls: Option<Arc<Tls>>,
) -> admin::Scrape {
    Arc::new(move || {
        let (age, is_ready) = (health.age.longest(Instant::now()), health.ready.load(Ordering::Acquire));
        metrics.sample(&index.states().counts, age, is_ready, |address| index.get(address).is_some());
        if let Some(time) = tls.as_ref().and_then(|tls| tls.not_after()) {
            metrics.tls_not_after.set(time.as_second());
        }
        metrics.text()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn flags(arguments: &[&str]) -> Serve {
        let all = ["opendepot", "serve", "--allow-storage", "*=*"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Serve(serve) => *serve,
            _ => panic!("another command"),
        }
    }

    #[test]
    fn the_audience_is_the_host_unless_there_is_another() {
        let url = ["--url", "https://registry.acme.io:8443"];
        for (arguments, expected) in [
            (&[][..], Some("registry.acme.io:8443")),
            (&["--audience", ""][..], Some("registry.acme.io:8443")),
            (&["--audience", "acme"][..], Some("acme")),
        ] {
            let all = [&url[..], arguments].concat();
            assert_eq!(audience(&flags(&all)).as_deref(), expected, "{arguments:?}");
        }
        assert_eq!(audience(&flags(&["--audience", ""])), None);
    }

    #[test]
    fn the_host_of_a_source_is_as_the_clients_take_it() {
        for (url, expected) in [
            ("https://registry.acme.io", "registry.acme.io"),
            ("https://módulos.acme.io:8443", "módulos.acme.io:8443"),
            ("https://xn--mdulos-bxa.acme.io", "módulos.acme.io"),
            ("https://192.0.2.1:8443", "192.0.2.1:8443"),
            ("https://[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(source_host(&flags(&["--url", url])).as_deref(), Some(expected), "{url}");
        }
    }
}

//! How the API server is started.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kubernetes;
use crate::process::Spec;

/// The API server, which listens on this port of loopback.
pub(super) fn spec(binary: PathBuf, folder: &Path, etcd: &str, port: u16) -> Spec {
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    Spec::new(binary, folder.join("kube-apiserver.log"))
        // It is the busiest process of the tests. With Go's defaults, a third of its work is garbage collection.
        .env("GOGC", "1000")
        .env("GOMEMLIMIT", format!("{}KiB", memory_limit()))
        .arg(format!("--etcd-servers={etcd}"))
        .arg(format!("--secure-port={port}"))
        // Without the reconciler flag it exits: a loopback address may not be advertised.
        .args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
        ])
        .args([file("client-ca-file", "ca.pem"), file("tls-cert-file", "server.pem")])
        .args([file("tls-private-key-file", "server.key"), file("service-account-key-file", "tokens.pem")])
        .arg(file("service-account-signing-key-file", "tokens.key"))
        .args([
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
        ])
        .args(["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"])
        .arg("--enable-admission-plugins=OwnerReferencesPermissionEnforcement")
        .args([file("audit-policy-file", "audit.yaml"), file("audit-log-path", "audit.log")])
        // Never rotated: the counts are taken from one file.
        .args(["--audit-log-mode=blocking", "--audit-log-maxsize=100000"])
        // Fair queueing is for clusters that are shared; here it only throttles the tests.
        .args(["--enable-priority-and-fairness=false", "--max-requests-inflight=2000"])
        .args(["--max-mutating-requests-inflight=2000"])
        // Reads each object in etcd again every five minutes, to compare it with the watch cache. Kubernetes 1.30 has no such check.
        .args(kubernetes::older().is_none().then_some("--feature-gates=DetectCacheInconsistency=false"))
}

/// The memory in KiB above which it collects garbage often. At most two are busy at a time.
fn memory_limit() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    (total.unwrap_or_default() / 5).clamp(2 << 20, 4 << 20)
}

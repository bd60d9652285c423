//! How archives wait to be read, and what is done about a store that is too slow.

use futures::future::join_all;
use futures::poll;
use tokio::net::TcpListener;

use super::*;
use crate::api::state::StoredLocation;
use crate::domain::ObjectLocation;

fn library(metrics: &RegistryMetrics) -> Library {
    Library::new(Arc::new(Storage::with_test_keys()), std::env::temp_dir(), metrics.clone())
}

fn archive(endpoint: String) -> Archive {
    let location = ObjectLocation {
        bucket: "modules".into(),
        key: "vpc/a.zip".into(),
        region: "us-west-2".into(),
        endpoint: Some(endpoint),
        force_path_style: Some(true),
    };
    Archive { location: StoredLocation::from(&location), sha256: [0; 32], size: 7 }
}

#[tokio::test]
async fn a_namespace_whose_store_is_too_slow_leaves_a_slot_to_others_if_there_are_some_and_is_counted() {
    let store = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (metrics, links) = (RegistryMetrics::default(), Links::default());
    let (library, archive) = (library(&metrics), archive(format!("http://{}", store.local_addr().unwrap())));
    for (namespace, free) in [(Some("platform"), 1), (None, 0)] {
        let reads = [1, 2].map(|key| library.read(tenant(namespace, [key; 32]), &archive, &links));
        let mut reads = Box::pin(join_all(reads));
        assert!(poll!(&mut reads).is_pending());
        assert_eq!(library.slots.free(), free, "{namespace:?}");
        for answer in reads.await {
            assert_eq!(answer.err(), Some(NoDocs::TooSlow));
        }
    }
    let text = metrics.text().unwrap();
    assert!(text.contains("s3_errors_total{kind=\"slow\"} 4\n"), "{text}");
    // The failure is that of this object only.
    let answer = library.begin([3; 32], archive.clone(), links, 1, 1).unwrap().await;
    assert_eq!(answer.err(), Some(NoDocs::TooSlow));
    let is_kept = |key: DocsKey| library.cache.lock().get(&key, Instant::now()).is_some();
    let copy = self::archive("http://127.0.0.1:9".into());
    assert!(is_kept(failure_key(&[3; 32], &archive)));
    assert!(!is_kept([3; 32]) && !is_kept(failure_key(&[3; 32], &copy)));
}

#[tokio::test]
async fn half_of_what_waits_may_be_of_one_client_or_of_one_namespace() {
    let library = library(&RegistryMetrics::default());
    let archive = archive("http://127.0.0.1:9".into());
    // No read begins, since nothing is awaited.
    let begins = |key: u8, peer: u64, tenant: u64| {
        library.begin([key; 32], archive.clone(), Links::default(), peer, tenant).is_ok()
    };
    let half = u8::try_from(WAITING / 2).unwrap();
    assert!((0..half).all(|key| begins(key, 1, 11)));
    for (peer, namespace, is_accepted) in [(1, 12, false), (2, 11, false), (2, 12, true)] {
        assert_eq!(begins(half, peer, namespace), is_accepted, "client {peer}, namespace {namespace}");
    }
}

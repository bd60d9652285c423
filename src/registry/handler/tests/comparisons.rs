//! What changed between two versions, and when that is not answered.

use super::pages::{PAGE, has_all, registry};
use super::*;
use crate::domain::hash_of;
use crate::registry::docs::{Docs, Folder, Input};

/// A client other than that of the requests, by hash.
const OTHER: u64 = 0;

/// The client of the requests, by hash.
fn client() -> u64 {
    hash_of(PEER)
}

#[tokio::test]
async fn two_versions_are_compared_for_a_caller() {
    let registry = registry();
    let page = registry.get(&format!("{PAGE}/compare/1.0.0...1.1.0"), &[ANN]).await.text();
    has_all(&page, &["<code>old</code> removed", "<code>name</code> added", "needs attention"]);
    // A session does not count for the API.
    assert!(!page.contains("/v1/"), "{page}");
    let json = registry.get("/v1/modules/platform/eks/aws/compare/1.0.0...1.1.0", &[ANN]).await.json();
    assert_eq!(
        (&json["from"], &json["to"], &json["id"]),
        (&json!("1.0.0"), &json!("1.1.0"), &json!("platform/eks/aws"))
    );
    let first = &json["modules"][0]["changes"][0];
    assert_eq!(first["is_breaking"], true, "{json}");
    let same = registry.get(&format!("{PAGE}/compare/1.1.0...1.2.0%2Bb1"), &[ANN]).await.text();
    assert!(same.contains("No input, output, requirement, resource or call of a module changed."), "{same}");
    assert_eq!(
        registry.get(&format!("{PAGE}/compare/1.1.0...9.9.9"), &[ANN]).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        registry.get(&format!("{PAGE}/compare/1.1.0...1.0.0"), &[BOB]).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn comparisons_wait_for_each_other_and_only_so_many_do() {
    let registry = registry();
    let [turns, requests] = registry.service.pages.library.limits();
    let free = || (turns.free(), requests.free());
    let (at_once, waiting) = free();
    assert_eq!(at_once, 2);
    let path = format!("{PAGE}/compare/1.0.0...1.1.0");
    let running = [(); 2].map(|()| turns.try_acquire(OTHER).unwrap());
    tokio::select! {
        answer = registry.get(&path, &[ANN]) => panic!("it does not wait: {}", answer.status),
        () = async { while free().1 == waiting { tokio::task::yield_now().await } } => {}
    }
    assert_eq!(free(), (0, waiting), "the client has left");
    let others: Vec<_> = std::iter::from_fn(|| requests.try_acquire(client())).collect();
    assert_eq!(free().1, waiting / 2, "another client has the other half");
    for path in [&*path, "/v1/modules/platform/eks/aws/compare/1.0.0...1.1.0"] {
        let busy = registry.get(path, &[ANN]).await;
        assert_eq!((busy.status, busy.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "60"));
        has_all(&busy.text(), &["try again in a minute"]);
    }
    drop(others);
    let (answer, ()) = tokio::join!(registry.get(&path, &[ANN]), async {
        tokio::task::yield_now().await;
        drop(running);
    });
    assert_eq!((answer.status, free()), (StatusCode::OK, (at_once, waiting)));
}

#[tokio::test]
async fn a_large_page_waits_for_its_turn_and_others_do_not() {
    let registry = registry();
    let library = &registry.service.pages.library;
    let module = registry.service.pages.index.get(&"platform/eks/aws".parse().unwrap()).unwrap();
    let version = module.stored(&Release::parse("1.0.0").unwrap()).unwrap();
    let input = |number: usize| Input {
        name: format!("v{number}"),
        description: Some("x".repeat(1 << 10)),
        ..Input::default()
    };
    let folder = Folder { inputs: (0..600).map(input).collect(), ..Folder::default() };
    library.put(version, Docs { folders: vec![folder], is_cut: false });
    let [turns, _] = library.limits();
    let running = [(); 2].map(|()| turns.try_acquire(client()).unwrap());
    let [large, other] = ["1.0.0", "1.1.0"].map(|version| format!("{PAGE}/{version}"));
    let mut large = Box::pin(registry.get(&large, &[ANN]));
    tokio::select! {
        biased;
        answer = &mut large => panic!("it does not wait: {}", answer.status),
        answer = registry.get(&other, &[ANN]) => assert_eq!(answer.status, StatusCode::OK),
    }
    let mut next = Box::pin(turns.acquire(OTHER));
    assert!(futures::poll!(&mut next).is_pending());
    let [first, second] = running;
    drop(first);
    assert!(futures::poll!(&mut next).is_ready(), "another client waits for one page of the first");
    drop((next, second));
    let large = large.await;
    assert_eq!(large.status, StatusCode::OK);
    has_all(&large.text(), &["id=\"input_v599\""]);
}

#[tokio::test]
async fn what_can_never_be_compared_is_no_error_of_the_registry() {
    let registry = Registry::new();
    let (object, mut stored) = module("eks", "eks", &json!([{"version": "1.0.0"}, {"version": "1.1.0"}]));
    for version in &mut stored {
        version["status"]["archiveSizeBytes"] = json!((64 << 20) + 1);
    }
    registry.serve((object, stored));
    for (path, status) in [
        (format!("{PAGE}/compare/1.0.0...1.1.0"), StatusCode::OK),
        (format!("{ADDRESS}/compare/1.0.0...1.1.0"), StatusCode::NOT_FOUND),
    ] {
        let answer = registry.get(&path, &[ANN]).await;
        assert_eq!((answer.status, answer.header("retry-after")), (status, ""), "{path}");
        has_all(&answer.text(), &["The archive is too large for its documentation to be shown."]);
    }
}

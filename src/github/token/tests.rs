use futures::future::join_all;
use tokio::sync::Notify;

use super::{super::credential::Identity, *};

const HOUR: u64 = 3600;

/// A cache whose clock is moved by hand, and a mint that counts.
struct Bench {
    cache: TokenCache,
    clock: Arc<AtomicU64>,
    mints: AtomicU64,
    lacks_contents: bool,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&clock);
        let start = Instant::now();
        let cache = TokenCache::new(move || start + Duration::from_secs(read.load(Ordering::SeqCst)));
        Self { cache, clock, mints: AtomicU64::new(0), lacks_contents: false }
    }

    async fn get(&self, account: &Account, lifetime: u64) -> Result<String, FetchError> {
        let mint = || async {
            let serial = self.mints.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            let token = format!("t{serial}").into();
            Ok(Minted { token, lifetime: Duration::from_secs(lifetime), lacks_contents: self.lacks_contents })
        };
        self.cache.get(account, mint).await.map(|grant| grant.token.expose_secret().to_owned())
    }

    /// The token in use, which is there.
    async fn held(&self, account: &Account) -> Arc<Grant> {
        let none = || async { Err(FetchError::TooLarge { limit: 0 }) };
        self.cache.get(account, none).await.unwrap()
    }

    async fn fail(&self, account: &Account) -> Result<Arc<Grant>, FetchError> {
        let mint = || async {
            self.mints.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Err(FetchError::CredentialRefused { status: 401, what: "test".into() })
        };
        self.cache.get(account, mint).await
    }

    fn mints(&self) -> u64 {
        self.mints.load(Ordering::SeqCst)
    }
}

fn account(key: u8) -> Account {
    let identity = Identity::App { app_id: 1, installation_id: 2, fingerprint: [key; 32] };
    Account { host: "api.github.com".into(), identity }
}

#[tokio::test]
async fn many_at_once_mint_one() {
    let bench = Bench::new();
    let account = account(1);
    let tokens = join_all((0..50).map(|_| bench.get(&account, HOUR))).await;
    assert!(tokens.iter().all(|t| t.as_deref().is_ok_and(|t| t == "t0")));
    assert_eq!(bench.mints(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_shortly_before_it_expires() {
    let bench = Bench::new();
    for (now, token) in [(0, "t0"), (HOUR - 301, "t0"), (HOUR - 300, "t1"), (HOUR, "t1")] {
        bench.clock.store(now, Ordering::SeqCst);
        assert_eq!(bench.get(&account(1), HOUR).await.unwrap(), token, "at {now}");
    }
}

#[tokio::test]
async fn a_short_lived_token_is_still_shared() {
    let bench = Bench::new();
    for (now, token) in [(0, "t0"), (74, "t0"), (75, "t1")] {
        bench.clock.store(now, Ordering::SeqCst);
        assert_eq!(bench.get(&account(1), 100).await.unwrap(), token, "at {now}");
    }
}

#[tokio::test]
async fn another_key_gets_another_token_and_does_not_wait() {
    let bench = Bench::new();
    let stuck = Notify::new();
    let first = account(1);
    let hang = bench.cache.get(&first, || async {
        stuck.notified().await;
        Err(FetchError::TooLarge { limit: 0 })
    });
    tokio::pin!(hang);
    assert!(futures::poll!(&mut hang).is_pending());
    assert_eq!(bench.get(&account(2), HOUR).await.unwrap(), "t0");
    stuck.notify_one();
    assert!(hang.await.is_err());
    assert_eq!(bench.get(&account(1), HOUR).await.unwrap(), "t1");
}

#[tokio::test]
async fn those_who_waited_share_a_failure_and_the_next_one_tries_again() {
    let bench = Bench::new();
    let account = account(1);
    let failures = join_all((0..50).map(|_| bench.fail(&account))).await;
    assert!(failures.iter().all(Result::is_err));
    assert_eq!(bench.mints(), 1);
    assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t1");
}

#[tokio::test]
async fn an_abandoned_attempt_leaves_the_place_to_the_next() {
    let bench = Bench::new();
    let first = account(1);
    {
        let abandoned = bench.get(&first, HOUR);
        tokio::pin!(abandoned);
        assert!(futures::poll!(&mut abandoned).is_pending());
    }
    assert_eq!(bench.get(&first, HOUR).await.unwrap(), "t1");
}

#[test]
fn what_a_refusal_means() {
    use TokenRejection::{Counts, Replace, TooNew};
    for (what, status, age, worked, failing_for, replaced, meaning) in [
        ("just minted", 401, 0, false, 0, None, TooNew),
        ("just minted, forbidden", 403, 1, false, 0, None, TooNew),
        ("just minted, not found", 404, 5, false, 0, None, TooNew),
        ("it worked elsewhere", 401, 30, true, 9, None, TooNew),
        ("it worked elsewhere, forbidden", 403, 59, true, 0, None, TooNew),
        ("a replacement is as new", 401, 59, true, 59, Some(59), TooNew),
        ("refused for long and never accepted", 401, 59, false, 59, None, TooNew),
        ("the minute is over", 401, 60, false, 60, None, Counts),
        ("the minute is over, forbidden", 403, 60, true, 0, None, Counts),
        ("the minute is over, not found", 404, 60, true, 0, None, Counts),
        ("revoked within the minute", 401, 20, true, 10, None, Replace),
        ("revoked later", 401, 60, true, 0, None, Replace),
        ("revoked again at once", 401, 60, true, 30, Some(60), Counts),
        ("revoked again later", 401, 600, true, 0, Some(600), Replace),
        ("never worked", 401, 599, false, 599, None, Counts),
        ("never worked, and is old", 401, 600, false, 600, None, Replace),
        ("old and forbidden", 403, 3000, true, 0, None, Counts),
    ] {
        let seconds = Duration::from_secs;
        let (age, failing_for) = (seconds(age), seconds(failing_for));
        let replaced = replaced.map(seconds);
        assert_eq!(RejectedToken { status, age, worked, failing_for, replaced }.means(), meaning, "{what}");
    }
}

#[tokio::test]
async fn a_token_that_some_know_and_some_do_not_is_kept() {
    let bench = Bench::new();
    let account = account(1);
    bench.get(&account, HOUR).await.unwrap();
    let grant = bench.held(&account).await;
    for now in (0..60).step_by(8) {
        bench.clock.store(now, Ordering::SeqCst);
        assert_eq!(bench.cache.refused(&account, &grant, 401).await, TokenRejection::TooNew, "at {now}");
        grant.worked_for("acme/net");
    }
    assert_eq!(bench.mints(), 1);
}

#[tokio::test]
async fn a_new_token_that_is_refused_is_kept_by_all_who_share_it() {
    let bench = Bench::new();
    let account = account(1);
    bench.get(&account, HOUR).await.unwrap();
    let grant = bench.held(&account).await;
    for (now, status, meaning) in [
        (0, 401, TokenRejection::TooNew),
        (59, 403, TokenRejection::TooNew),
        (60, 401, TokenRejection::Counts),
    ] {
        bench.clock.store(now, Ordering::SeqCst);
        assert_eq!(bench.cache.is_new(&grant), now < 60);
        for _ in 0..20 {
            assert_eq!(bench.cache.refused(&account, &grant, status).await, meaning, "at {now}");
            assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t0");
        }
    }
}

#[tokio::test]
async fn a_token_that_worked_is_replaced_once_for_all_who_are_refused() {
    let bench = Bench::new();
    let account = account(1);
    bench.get(&account, HOUR).await.unwrap();
    let first = bench.held(&account).await;
    first.worked_for("acme/net");
    assert!(first.works_for("acme/net") && !first.works_for("acme/other"));
    bench.clock.store(100, Ordering::SeqCst);
    for _ in 0..20 {
        assert_eq!(bench.cache.refused(&account, &first, 401).await, TokenRejection::Replace);
        assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t1", "only the refused one is forgotten");
    }
    // The next is not replaced as soon as it counts: for one repository it works, for the other it never will.
    let second = bench.held(&account).await;
    second.worked_for("acme/net");
    bench.clock.store(200, Ordering::SeqCst);
    assert_eq!(bench.cache.refused(&account, &second, 401).await, TokenRejection::Counts);
    assert_eq!(bench.mints(), 2);
    bench.clock.store(700, Ordering::SeqCst);
    assert_eq!(bench.cache.refused(&account, &second, 401).await, TokenRejection::Replace);
    assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t2");
}

#[tokio::test]
async fn an_app_that_gets_the_permission_later_gets_a_token_with_it() {
    let mut bench = Bench::new();
    let account = account(1);
    bench.lacks_contents = true;
    bench.get(&account, HOUR).await.unwrap();
    let first = bench.held(&account).await;
    bench.clock.store(60, Ordering::SeqCst);
    assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t0", "public repositories need no permission");
    // What is forbidden makes the next fetch ask again, and all keep the old token, whose rejections count.
    for (now, mints) in [(60, 2), (69, 2), (70, 3)] {
        bench.clock.store(now, Ordering::SeqCst);
        assert_eq!(bench.cache.refused(&account, &first, 403).await, TokenRejection::Counts);
        for _ in 0..20 {
            assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t0", "at {now}");
        }
        assert_eq!(bench.mints(), mints, "at {now}");
    }
    bench.clock.store(80, Ordering::SeqCst);
    assert!(bench.fail(&account).await.is_ok(), "the old token is still good");
    bench.lacks_contents = false;
    bench.clock.store(90, Ordering::SeqCst);
    assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t4");
    bench.clock.store(200, Ordering::SeqCst);
    let second = bench.held(&account).await;
    assert_eq!(bench.cache.refused(&account, &second, 403).await, TokenRejection::Counts);
    assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t4", "it may read contents");
    assert_eq!(bench.mints(), 5);
}

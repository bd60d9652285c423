//! What answers reveal, what one client costs others, and what continues without the API server.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use aws_lc_rs::digest::{SHA256, digest};
use futures::future::join_all;
use opendepot_testbed::operator::Operator;
use opendepot_testbed::terraform::Terraform;
use tokio::net::{TcpListener, TcpStream};

use crate::support::registry::{archive, metric};
use crate::support::token_registry::{Registry, RegistryBuilder};
use crate::support::{World, soon};

fn versions(namespace: &str, name: &str) -> String {
    format!("/v1/modules/{namespace}/{name}/aws/versions")
}

async fn published(name: &str, modules: &[&str]) -> World {
    let world = World::new(name).await;
    for module in modules {
        world.publish(module, &[("1.0.0", archive("# it\n", 0))]).await;
    }
    world
}

/// Waits until the registry has seen a module, with a token that may download it.
async fn listed(registry: &Registry, path: &str, token: &str) {
    soon(|| async {
        let status = registry.get(path, Some(token)).await.status();
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await;
}

/// All were refused: so many because their token is wrong, and the rest because of the limit.
fn only_so_many(statuses: &[u16], least: usize, most: usize) {
    let count = |status| statuses.iter().filter(|one| **one == status).count();
    let (checked, limited) = (count(401), count(429));
    assert!((least..=most).contains(&checked), "{checked} of {least} to {most}: {statuses:?}");
    assert_eq!(checked + limited, statuses.len(), "{statuses:?}");
}

/// All of an answer, apart from the clock.
async fn whole(registry: &Registry, path: &str, token: &str) -> String {
    let answer = registry.get(path, Some(token)).await;
    let reason =
        answer.extensions().get::<hyper::ext::ReasonPhrase>().map(|reason| reason.as_bytes().to_vec());
    let mut headers = answer.headers().clone();
    headers.remove("date");
    format!("{} {reason:?} {headers:?} {}", answer.status(), answer.text().await.unwrap())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

#[tokio::test]
async fn no_answer_shows_whether_a_module_exists() {
    let world = published("oracle", &["net"]).await;
    let builder = RegistryBuilder::new(&world);
    let folder = builder.file("tokens");
    std::fs::create_dir(&folder).unwrap();
    let tokens: Vec<String> = (0..1000).map(|number| format!("odt_{number:043}")).collect();
    for (number, token) in tokens.iter().enumerate() {
        let mut text = "sha256:".to_owned();
        for byte in digest(&SHA256, token.as_bytes()).as_ref() {
            write!(text, "{byte:02x}").unwrap();
        }
        std::fs::write(folder.join(format!("stranger-{number}")), text).unwrap();
    }
    let registry = builder.args(&["--tokens-dir", folder.to_str().unwrap()]).start().await;
    let (there, none) = (versions(&world.name, "net"), versions(&world.name, "nyt"));
    listed(&registry, &there, &world.consumer(&registry, "ci")).await;

    // Cold: each identity is new, and asks for both. What the API server did not answer in time is not measured.
    let time = async |path: &str, token: &str| {
        soon(|| async {
            let start = Instant::now();
            let status = registry.get_once(path, Some(token)).await.status();
            let took = start.elapsed();
            ensure!(status != 503, "the API server does not answer");
            assert_eq!(status, 403);
            Ok(took)
        })
        .await
    };
    let mut cold = (Vec::new(), Vec::new());
    for (number, token) in tokens.iter().enumerate() {
        if number % 2 == 0 {
            cold.0.push(time(&there, token).await);
            cold.1.push(time(&none, token).await);
        } else {
            cold.1.push(time(&none, token).await);
            cold.0.push(time(&there, token).await);
        }
    }
    let (_, reviews) = registry.reviews(&world).await;
    assert!(reviews > 2000, "one for each identity and name: {reviews}");
    let mut warm = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        warm.0.push(time(&there, &tokens[999]).await);
        warm.1.push(time(&none, &tokens[999]).await);
    }
    for (what, (there, none)) in [("cold", cold), ("warm", warm)] {
        let ratio = median(there) / median(none);
        assert!((0.6..1.7).contains(&ratio), "{what}: {ratio}");
    }

    let token = &tokens[998];
    for rest in ["/versions", "", "/1.0.0", "/2.0.0", "/1.0.0/download", "/2.0.0/download"] {
        let of = |name: &str| format!("/v1/modules/{}/{name}/aws{rest}", world.name);
        let (there, none) =
            (whole(&registry, &of("net"), token).await, whole(&registry, &of("nyt"), token).await);
        assert_eq!(there, none, "{rest}");
        let elsewhere = whole(&registry, &format!("/v1/modules/elsewhere/net/aws{rest}"), token).await;
        assert_eq!(there, elsewhere, "{rest}");
    }
}

#[tokio::test]
async fn many_clients_with_one_new_token_cost_one_review_of_each_kind() {
    let world = published("stampede", &["net", "vpc"]).await;
    let registry = world.registry().await;
    let (net, vpc) = (versions(&world.name, "net"), versions(&world.name, "vpc"));
    let warm = world.consumer(&registry, "warm");
    listed(&registry, &net, &warm).await;
    listed(&registry, &vpc, &warm).await;
    let before = registry.reviews(&world).await;
    let token = world.consumer(&registry, "ci");
    let clients = (0..64).map(|number| {
        let path = if number % 2 == 0 { &net } else { &vpc };
        registry.get(path, Some(&token))
    });
    for answer in join_all(clients).await {
        assert_eq!(answer.status(), 200);
    }
    let after = registry.reviews(&world).await;
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 2));
}

#[tokio::test]
async fn random_names_cost_a_bounded_number_of_reviews_and_others_go_on() {
    let world = published("names", &["net"]).await;
    let registry = world.registry_with(&["--anonymous", "--trusted-proxy", "127.0.0.1"]).await;
    let own = versions(&world.name, "net");
    let token = world.consumer(&registry, "ci");
    listed(&registry, &own, &token).await;
    let (_, before) = registry.reviews(&world).await;
    let (mut forbidden, mut limited) = (Vec::new(), 0);
    let start = Instant::now();
    for number in 0..150 {
        let answer = registry.get(&versions("elsewhere", &format!("n{number}")), Some(&token)).await;
        match answer.status().as_u16() {
            403 => forbidden.push(answer.text().await.unwrap()),
            429 => {
                assert!(answer.headers().contains_key("retry-after"));
                limited += 1;
            }
            other => panic!("{other}"),
        }
    }
    // 60 at once, and one more for each second since; each is asked for the identity and for everybody.
    let most = 61 + usize::try_from(start.elapsed().as_secs()).unwrap();
    assert!((60..=most).contains(&forbidden.len()), "{} of {most}", forbidden.len());
    assert_eq!(forbidden.len() + limited, 150);
    forbidden.dedup();
    assert_eq!(forbidden.len(), 1, "{forbidden:?}");
    let (_, after) = registry.reviews(&world).await;
    assert!(after - before <= 2 * most, "{before} {after}");
    // Known names and unknown ones alike, and what is cached continues.
    for number in 0.. {
        assert!(number < 1000, "a permitted name is not limited");
        // One more is permitted each second: the next question comes at once after a refusal.
        if registry.get(&versions("elsewhere", &format!("m{number}")), Some(&token)).await.status() != 429 {
            continue;
        }
        if registry.get(&versions(&world.name, &format!("m{number}")), Some(&token)).await.status() == 429 {
            break;
        }
    }
    assert_eq!(registry.get(&own, Some(&token)).await.status(), 200);
    let other = world.consumer(&registry, "other");
    assert_eq!(registry.get(&own, Some(&other)).await.status(), 200);

    // Without a token it is the peer that is limited: an address, or the network of an IPv6 address.
    let statuses = async |kind: &str, peers: Vec<String>| {
        let mut all = Vec::new();
        for (number, peer) in peers.into_iter().enumerate() {
            let path = versions("elsewhere", &format!("{kind}{number}"));
            all.push(registry.get_from(&peer, &path, None).await.0);
        }
        all
    };
    let peers = (0..100).map(|number| format!("2001:db8:1:2:{number:x}::{number:x}")).collect();
    let start = Instant::now();
    let network = statuses("a", peers).await;
    only_so_many(&network, 60, 61 + usize::try_from(start.elapsed().as_secs()).unwrap());
    let peers = (0..100).map(|number| format!("2001:db8:1:{:x}::1", number + 3)).collect();
    let networks = statuses("b", peers).await;
    assert_eq!(networks, [401; 100]);
}

#[tokio::test]
async fn a_peer_with_failed_tokens_waits_and_its_neighbours_do_not() {
    let world = published("peers", &["net"]).await;
    let registry = world.registry_with(&["--trusted-proxy", "127.0.0.1,10.0.0.0/8"]).await;
    let own = versions(&world.name, "net");
    let (token, fresh) = (world.consumer(&registry, "ci"), world.token(&registry.host, "ci"));
    listed(&registry, &own, &token).await;
    let fails = async |kind: &str, peers: fn(usize) -> String| {
        let mut answers = Vec::new();
        for number in 0..60 {
            let token = format!("wrong-{kind}-{number}");
            answers.push(registry.get_from(&peers(number), &own, Some(&token)).await);
        }
        answers
    };
    // What the client itself writes stands to the left of what the proxies add.
    let (before, start) = (registry.reviews(&world).await.0, Instant::now());
    let written = fails("written", |number| format!("203.0.113.{number}, 192.0.2.7, 10.1.2.3")).await;
    let network = fails("network", |number| format!("2001:db8:1:2::{number:x}")).await;
    // One more in two seconds.
    let most = |start: Instant| 31 + usize::try_from(start.elapsed().as_secs()).unwrap() / 2;
    for answers in [written, network] {
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.0).collect();
        only_so_many(&statuses, 30, most(start));
        let said = |answer: &(u16, String)| answer.0 == 401 || answer.1 == "too many failed tokens: wait\n";
        assert!(answers.iter().all(said), "{answers:?}");
    }
    assert!(registry.reviews(&world).await.0 - before <= 2 * most(start));
    // Of what is cached, a token continues for two minutes only.
    listed(&registry, &own, &token).await;
    for peer in ["192.0.2.7", "2001:db8:1:2:ffff::1"] {
        assert_eq!(registry.get_from(peer, &own, Some(&token)).await.0, 200, "a cached token continues");
        assert_eq!(registry.get_from(peer, &own, None).await.0, 401, "a missing token is no failed one");
    }
    for peer in ["192.0.2.8", "203.0.113.1", "2001:db8:1:3::1"] {
        assert_eq!(
            registry.get_from(peer, &own, Some(&format!("{peer}-wrong").replace(':', "."))).await.0,
            401
        );
    }
    assert_eq!(registry.get_from("192.0.2.8", &own, Some(&fresh)).await.0, 200);

    // Without the flag everybody is the address that the connection came from, and the header is reported.
    let plain = world.registry().await;
    let (mut statuses, start) = (Vec::new(), Instant::now());
    for number in 0..60 {
        let (peer, token) = (format!("198.51.100.{number}"), format!("wrong{number}"));
        statuses.push(plain.get_from(&peer, &own, Some(&token)).await.0);
    }
    only_so_many(&statuses, 30, most(start));
    assert_eq!(plain.process.log().matches("--trusted-proxy").count(), 1, "{}", plain.process.log());
    for registry in [registry, plain] {
        registry.tells_none_of(&world, &[&token, &fresh]).await;
    }
}

const FORWARDS: u8 = 0;
const REFUSES: u8 = 1;
const HANGS: u8 = 2;

/// A way to the API server that can be cut.
async fn relay(to: String) -> (String, Arc<AtomicU8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, mode) =
        (format!("https://{}", listener.local_addr().unwrap()), Arc::new(AtomicU8::new(FORWARDS)));
    let current = Arc::clone(&mode);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (to, current) = (to.clone(), Arc::clone(&current));
            tokio::spawn(async move {
                let is = |mode| current.load(Ordering::SeqCst) == mode;
                let Ok(mut server) = TcpStream::connect(to).await else { return };
                if is(FORWARDS) {
                    let cut = async {
                        while is(FORWARDS) {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        () = cut => {}
                    }
                }
                while is(HANGS) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
    });
    (url, mode)
}

async fn ready(registry: &Operator) -> u16 {
    registry.http_get("/readyz").await.unwrap().0
}

#[tokio::test]
async fn without_the_api_server_those_who_are_known_go_on_and_others_wait() {
    let world = published("away", &["net", "vpc"]).await;
    let (url, mode) = relay(world.bed.kubernetes.address().to_owned()).await;
    let registry = RegistryBuilder::behind(&world, Some(&url)).start().await;
    let (net, vpc) = (versions(&world.name, "net"), versions(&world.name, "vpc"));
    let token = world.consumer(&registry, "ci");
    world.kubectl(&["create", "serviceaccount", "stranger"]);
    let stranger = world.token(&registry.host, "stranger");
    listed(&registry, &net, &token).await;
    assert_eq!(registry.get(&net, Some(&stranger)).await.status(), 403);
    let bad = "unknown-token";
    let unavailable = async |path: &str, token: &str| {
        let answer = registry.get_once(path, Some(token)).await;
        let wait = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((answer.status().as_u16(), wait.as_deref()), (503, Some("6")), "{path}");
        assert_eq!(answer.text().await.unwrap(), "the Kubernetes API does not answer: try again\n");
    };
    for cut in [REFUSES, HANGS] {
        mode.store(cut, Ordering::SeqCst);
        // A connection that was open is closed within moments; until then a review may pass.
        let probes = AtomicU8::new(0);
        soon(|| async {
            let probe = format!("probe-{cut}-{}", probes.fetch_add(1, Ordering::SeqCst));
            let status = registry.get_once(&net, Some(&probe)).await.status();
            ensure!(status == 503, "{status}");
            Ok(())
        })
        .await;
        let fresh = world.token(&registry.host, "ci");
        let unknown = format!("{bad}-{cut}");
        for _ in 0..2 {
            assert_eq!(registry.get(&net, Some(&token)).await.status(), 200, "known, and permitted");
            let all = [(&net, &fresh), (&vpc, &token), (&net, &unknown)];
            join_all(all.map(|(path, token)| unavailable(path, token))).await;
        }
        // The list of modules has not been asked for before, and does not wait for each namespace.
        let start = Instant::now();
        let list = registry.get_once("/", Some(&token)).await;
        let (status, seconds) = (list.status(), start.elapsed().as_secs());
        assert!(status == 503 && seconds < 60, "{status} after {seconds} s");
        assert!(list.text().await.unwrap().contains("the Kubernetes API does not answer: try again"));
        assert_eq!(ready(&registry.process).await, 200);
        mode.store(FORWARDS, Ordering::SeqCst);
        // A failure is remembered for seconds.
        listed(&registry, &net, &fresh).await;
        if cut == HANGS {
            listed(&registry, &vpc, &token).await;
        }
    }
    soon(|| async {
        let status = registry.get(&net, Some(&format!("{bad}-{HANGS}"))).await.status();
        ensure!(status == 401, "{status}");
        Ok(())
    })
    .await;
    registry.tells_none_of(&world, &[&token, &stranger, bad]).await;
}

/// Runs `init` with a token that the registry does not know, while the API server is away for the first review alone.
async fn init_in_an_outage(registry: &Registry, mode: &AtomicU8, path: &str, client: Terraform) -> bool {
    let probes = AtomicU8::new(0);
    mode.store(REFUSES, Ordering::SeqCst);
    soon(|| async {
        let probe = format!("probe-{}", probes.fetch_add(1, Ordering::SeqCst));
        let status = registry.get_once(path, Some(&probe)).await.status();
        ensure!(status == 503, "{status}");
        Ok(())
    })
    .await;
    let failed = "opendepot_registry_reviews_total{kind=\"token\",outcome=\"failed\"}";
    let before = metric(&registry.process, failed).await;
    let init = tokio::task::spawn_blocking(move || {
        let result = client.run(&["init", "-no-color", "-input=false"]);
        println!("{}: {result:?}", client.name());
        result.is_ok() && client.module("net").join("main.tf").is_file()
    });
    soon(|| async {
        ensure!(metric(&registry.process, failed).await > before, "no review has failed");
        Ok(())
    })
    .await;
    mode.store(FORWARDS, Ordering::SeqCst);
    init.await.unwrap()
}

#[tokio::test]
async fn the_one_retry_of_both_clients_comes_when_a_review_is_possible_again() {
    let world = published("retry", &["net"]).await;
    let (url, mode) = relay(world.bed.kubernetes.address().to_owned()).await;
    let registry = RegistryBuilder::behind(&world, Some(&url)).start().await;
    let path = versions(&world.name, "net");
    listed(&registry, &path, &world.consumer(&registry, "ci")).await;
    let module = registry.module("net", &format!("{}/net/aws", world.name), "1.0.0");
    for which in 0..2 {
        let mut is_installed = false;
        // On a busy machine, the second review may take too long as well.
        for _ in 0..3 {
            let client = registry.clients(&world.token(&registry.host, "ci")).remove(which);
            client.configure(&module).unwrap();
            is_installed = init_in_an_outage(&registry, &mode, &path, client).await;
            if is_installed {
                break;
            }
        }
        assert!(is_installed, "client {which}: {}", registry.process.log());
    }
}

//! Killing the server at random moments, while it is busy.

use crate::support::Server;
use spawnery_client::{Client, Token};
use std::collections::{BTreeSet, hash_map::RandomState};
use std::fs;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Commands come from so many callers at once.
const CALLERS: u32 = 8;

/// Each waits so long between two: about two hundred commands a second in all.
const PAUSE: Duration = Duration::from_millis(40);

/// How often the server is killed.
const ROUNDS: u32 = 5;

#[test]
fn everything_acknowledged_survives_kills_at_random_moments() {
    let mut server = Server::start();
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    for round in 0..ROUNDS {
        let before = acknowledged.lock().unwrap().len();
        let stop = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (client, stop) = (client(&server), stop.clone());
                let acknowledged = acknowledged.clone();
                std::thread::spawn(move || call(&client, &stop, &acknowledged, round, caller))
            })
            .collect();
        let moment = Duration::from_millis(300 + RandomState::new().hash_one(round) % 700);
        let until = Instant::now() + moment;
        // On a slow machine it may take longer until anything is acknowledged.
        while Instant::now() < until || acknowledged.lock().unwrap().len() == before {
            std::thread::sleep(Duration::from_millis(1));
        }
        server.process.kill();
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.join().expect("no caller panics");
        }
        server.restart();
        let there = templates(&server);
        let acknowledged = acknowledged.lock().unwrap();
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "round {round}, after {moment:?}: {lost:?} of {acknowledged:?}");
    }
    assert_eq!(server.home.json(&["journal", "verify"])["is_sound"], true);
}

fn client(server: &Server) -> Client {
    let token = fs::read_to_string(server.home.data().join("admin.token")).expect("a token");
    Client::new(&server.url, Some(Token::new(token))).expect("an address")
}

/// Declares one template after another until the server is gone.
fn call(
    client: &Client,
    stop: &AtomicBool,
    acknowledged: &Mutex<BTreeSet<String>>,
    round: u32,
    caller: u32,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        for number in 0.. {
            let name = format!("t-{round}-{caller}-{number}");
            let manifest = format!(r#"{{"sessions":{{"{name}":{{"run":["true"]}}}}}}"#);
            match client.apply(manifest).await {
                Ok(_) => acknowledged.lock().unwrap().insert(name),
                Err(_) if stop.load(Ordering::Relaxed) => return,
                // It was killed, which this thread has not been told yet.
                Err(_) => false,
            };
            tokio::time::sleep(PAUSE).await;
        }
    });
}

fn templates(server: &Server) -> BTreeSet<String> {
    let client = client(server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = runtime.expect("a runtime").block_on(client.templates());
    let names = found.expect("a list").into_iter().map(|template| template.name.to_string());
    names.collect()
}

//! Measures many starts at once, over one connection: the time from the first request of a
//! burst to the first output of each.
//!
//! `start_burst LAUNCHER DATA [BURST [ROUNDS [SPARES [PAUSE_MS]]]]`

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use spawnery_sandbox::client::Client;
use spawnery_sandbox::launcher::{Config, connect, spawn_detached};
use spawnery_sandbox::limits::PROTOCOL_VERSION;
use spawnery_sandbox::protocol::{
    Event, Hello, Message, Reply, Request, decode_frame, encode_frame,
};
use spawnery_sandbox::spec::SandboxSpec;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, launcher, data, rest @ ..] = arguments.as_slice() else {
        return Err("usage: start_burst LAUNCHER DATA [BURST [ROUNDS [SPARES [PAUSE_MS]]]]".into());
    };
    let number = |at: usize, default| rest.get(at).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (burst, rounds, spares, pause_ms) =
        (number(0, 50u64), number(1, 10), number(2, 2), number(3, 1000));
    let data = Path::new(data);
    let config = Config { spares: u32::try_from(spares)?, ..Config::new(data) };
    spawn_detached(Path::new(launcher), &config)?;
    let mut times = Vec::new();
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(pause_ms));
        times.extend(measure(data, burst, round)?);
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let (p50, p90, p99) = (at(50), at(90), at(99));
    writeln!(std::io::stdout(), "first output: p50 {p50:?} p90 {p90:?} p99 {p99:?}")?;
    Client::connect(data)?.request(Request::Shutdown { stop_all: true })?;
    Ok(())
}

/// One burst, waited for to the end of all.
fn measure(data: &Path, burst: u64, round: u64) -> Result<Vec<Duration>, Failure> {
    let mut socket = connect(data)?;
    let mut bytes = Vec::new();
    let hello = Hello { version: PROTOCOL_VERSION, subscribe: true, pid: 0 };
    encode_frame(&Message::Hello(hello), &mut bytes);
    let name = |number: u64| format!("burst-{round}-{number}-{}", std::process::id());
    for id in 0..burst {
        let spec = Box::new(SandboxSpec::new(["echo", "hi"]));
        let request = Request::Start { instance: name(id), spec };
        encode_frame(&Message::Request { id, request }, &mut bytes);
    }
    let begin = Instant::now();
    socket.write_all(&bytes)?;
    let (mut input, mut first, mut ended) = (Vec::new(), BTreeMap::new(), 0);
    while ended < burst {
        let mut buffer = [0; 65536];
        let read = socket.read(&mut buffer)?;
        input.extend_from_slice(&buffer[..read]);
        while let Some((message, used)) = decode_frame(&input)? {
            input.drain(..used);
            match message {
                Message::Event(Event::Output { instance, .. }) => {
                    first.entry(instance).or_insert_with(|| begin.elapsed());
                }
                Message::Event(Event::Exited { .. }) => ended += 1,
                Message::Reply { reply: Reply::Started { .. }, .. } | Message::Hello(_) => {}
                other => return Err(format!("{other:?}").into()),
            }
        }
    }
    let mut client = Client::connect(data)?;
    for id in 0..burst {
        client.request(Request::Forget { instance: name(id) })?;
    }
    Ok(first.into_values().collect())
}

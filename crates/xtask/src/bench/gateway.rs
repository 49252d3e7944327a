//! The gateway beside the proxies that people use, before the same server.
//!
//! Each proxy has the first core for itself; the server behind them and the load have the second.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::figure::Figure;
use super::memory::resident;
use super::options::Options;
use super::row::{Goal, Row};
use super::server::{self, Server};
use crate::Failure;
use crate::process;

/// Connections of the load.
const CONNECTIONS: usize = 64;

/// How long each proxy is under load, in each round.
const SECONDS: u32 = 6;

/// Rounds, in each of which all proxies have their turn; the median counts.
const ROUNDS: usize = 3;

/// Open WebSockets, where so many files may be open: each takes two in the server.
const SOCKETS_MAX: usize = 10_000;

/// Files of the server beside those of the WebSockets.
const FILES_SPARE: usize = 1000;

/// By which the gateway knows the service; the others pass it on. Not every load tool resolves names
/// below localhost.
const HOST: &str = "Host: upstream.localhost";

/// How long a proxy may take to answer at first.
const PATIENCE: Duration = Duration::from_secs(30);

/// Accepts every upgrade and says nothing more.
const HOLDER: &str = r#"
import asyncio, resource, sys

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

async def hold(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    await reader.read()

async def main():
    server = await asyncio.start_server(hold, "127.0.0.1", int(sys.argv[1]), backlog=4096, limit=4096)
    await server.serve_forever()

asyncio.run(main())
"#;

/// Requests a second, and times at half of them; and memory of idle WebSockets.
pub fn measure(options: &Options) -> Result<Vec<Row>, Failure> {
    let binary = server::binary(options)?;
    let bench = Bench::start(&binary)?;
    let mut rows = bench.requests()?;
    rows.push(bench.sockets()?);
    Ok(rows)
}

/// A proxy and its name.
struct Proxy {
    name: &'static str,
    url: String,
    _child: Option<Ended>,
}

/// A process that is ended when this is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Bench {
    server: Server,
    upstream: u16,
    holder: u16,
    folder: TempDir,
}

impl Bench {
    fn start(binary: &Path) -> Result<Bench, Failure> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let (upstream, holder) = (free_port()?, free_port()?);
        // The launcher and the server inherit the first core, the server behind them leaves it.
        let pinned = folder.path().join("spawnery");
        let script = format!("#!/bin/sh\nexec taskset -c 0 {} \"$@\"\n", binary.display());
        write(&pinned, &script)?;
        process::run(Command::new("chmod").arg("+x").arg(&pinned))?;
        let server = Server::start(&pinned, &["--allow-host-network"])?;
        let body = "x".repeat(1024);
        let indented = HOLDER.replace('\n', "\n        ");
        let manifest = format!(
            "services:\n  upstream:\n    run: [taskset, -c, '1', nginx, -c, /srv/nginx.conf]\n    \
             network: host\n    ports: [{upstream}]\n    memory: 128M\n    files:\n      \
             /srv/nginx.conf: |\n        daemon off;\n        master_process off;\n        \
             pid /tmp/nginx.pid;\n        error_log stderr error;\n        \
             events {{ worker_connections 4096; }}\n        http {{\n          access_log off;\n          \
             client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;\n          \
             uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;\n          \
             keepalive_requests 100000000;\n          server {{\n            \
             listen 127.0.0.1:{upstream};\n            location / {{ return 200 '{body}'; }}\n          \
             }}\n        }}\n  holder:\n    run: [taskset, -c, '1', python3, /srv/holder.py, '{holder}']\n    \
             network: host\n    ports: [{holder}]\n    memory: 1G\n    files:\n      \
             /srv/holder.py: |\n        {indented}\n"
        );
        let path = folder.path().join("manifest.yaml");
        write(&path, &manifest)?;
        server.process.run(&["apply", &path.display().to_string()])?;
        Ok(Bench { server, upstream, holder, folder })
    }

    fn requests(&self) -> Result<Vec<Row>, Failure> {
        let proxies = [self.gateway(), self.haproxy()?, self.nginx()?];
        for proxy in &proxies {
            wait_for(&proxy.url)?;
        }
        let mut rates = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (proxy, rates) in proxies.iter().zip(&mut rates) {
                rates.push(load(&proxy.url)?);
            }
        }
        let rates = rates.map(median);
        let rate = |index: usize| {
            let seconds = u64::from(SECONDS);
            Figure::rate((rates[index] * seconds as f64) as usize, Duration::from_secs(seconds))
        };
        let mut rows = Vec::new();
        for (index, least) in [(1, 0.95), (2, 1.0)] {
            let name = proxies[index].name;
            let what = format!("gateway: requests on one core, 1 KiB, beside {name}");
            rows.push(
                Row::new(what, rate(0), Goal::OfPeerAtLeast(least)).beside(name, rate(index)),
            );
        }
        // The same number of requests for all, half of what the slowest can.
        let half = rates.into_iter().fold(f64::INFINITY, f64::min) / 2.0;
        let mut times = Vec::new();
        for proxy in &proxies {
            times.push(self.paced(&proxy.url, half)?);
        }
        let what = format!("gateway: times at {half:.0} requests a second, half load");
        let [ours, haproxy, _] = <[Figure; 3]>::try_from(times).map_err(|_| "three proxies")?;
        rows.push(Row::new(what, ours, Goal::None).beside("haproxy", haproxy));
        Ok(rows)
    }

    fn gateway(&self) -> Proxy {
        let port = self.server.address.port();
        Proxy { name: "gateway", url: format!("http://127.0.0.1:{port}/"), _child: None }
    }

    fn haproxy(&self) -> Result<Proxy, Failure> {
        let (port, upstream) = (free_port()?, self.upstream);
        let config = format!(
            "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout client 60s\n  \
             timeout server 60s\n  timeout connect 5s\n  http-reuse always\n  option forwardfor\n\
             frontend front\n  bind 127.0.0.1:{port}\n  default_backend back\n\
             backend back\n  server one 127.0.0.1:{upstream}\n"
        );
        let path = self.folder.path().join("haproxy.cfg");
        write(&path, &config)?;
        let child = pinned(Command::new("haproxy").arg("-f").arg(&path))?;
        Ok(Proxy { name: "haproxy", url: format!("http://127.0.0.1:{port}/"), _child: Some(child) })
    }

    fn nginx(&self) -> Result<Proxy, Failure> {
        let (port, upstream, folder) = (free_port()?, self.upstream, self.folder.path().display());
        let config = format!(
            "daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr error;\n\
             events {{ worker_connections 4096; }}\nhttp {{ access_log off;\n\
             client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;\n\
             fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\n\
             keepalive_requests 100000000;\n\
             upstream back {{ server 127.0.0.1:{upstream}; keepalive 128; \
             keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://back; \
             proxy_http_version 1.1; proxy_set_header Connection ''; \
             proxy_set_header X-Forwarded-For $remote_addr; }} }} }}\n"
        );
        let path = self.folder.path().join("nginx.conf");
        write(&path, &config)?;
        let child = pinned(Command::new("nginx").arg("-c").arg(&path))?;
        Ok(Proxy { name: "nginx", url: format!("http://127.0.0.1:{port}/"), _child: Some(child) })
    }

    /// How long requests take that come at a steady rate.
    fn paced(&self, url: &str, rate: f64) -> Result<Figure, Failure> {
        let log = self.folder.path().join("times");
        // It goes on at the end of a file that is there.
        let _ = std::fs::remove_file(&log);
        let each = (rate / CONNECTIONS as f64).max(1.0);
        let mut command = Command::new("taskset");
        command.args(["-c", "1", "h2load", "--h1", "--duration", &SECONDS.to_string()]);
        command.args(["--clients", &CONNECTIONS.to_string(), "--rps", &format!("{each:.1}")]);
        command.args(["--header", HOST]);
        command.arg(format!("--log-file={}", log.display())).arg(url);
        process::output(&mut command)?;
        let text = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
        let times = text.lines().filter_map(|line| {
            let mut columns = line.split('\t');
            let (_, status, time) = (columns.next()?, columns.next()?, columns.next()?);
            (status == "200").then(|| time.parse().ok().map(Duration::from_micros)).flatten()
        });
        Ok(Figure::times(times.collect()))
    }

    fn sockets(&self) -> Result<Row, Failure> {
        let files = open_files_max()?;
        let count = (files.saturating_sub(FILES_SPARE) / 2).min(SOCKETS_MAX);
        let own = std::process::id().to_string();
        process::run(Command::new("prlimit").args(["--pid", &own, &format!("--nofile={files}:")]))?;
        let port = self.server.address.port();
        wait_for_port(self.holder)?;
        let id = self.server.process.id().to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let bytes = runtime.block_on(async {
            let mut sockets = vec![upgraded(port).await?];
            let before = resident(&id)?;
            while sockets.len() <= count {
                sockets.push(upgraded(port).await?);
            }
            Ok::<u64, Failure>(resident(&id)?.saturating_sub(before) / count as u64)
        })?;
        let what = format!("gateway: memory of each of {count} idle WebSockets");
        let figure = Figure::Memory { bytes, count };
        Ok(Row::new(what, figure, Goal::BytesAtMost(20.0 * 1024.0)))
    }
}

/// How many files a process may open at most (`proc_pid_limits(5)`).
fn open_files_max() -> Result<usize, Failure> {
    let text = std::fs::read_to_string("/proc/self/limits").map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(1));
    hard.map(|hard| hard.parse().unwrap_or(usize::MAX)).ok_or_else(|| "no limit is told".to_owned())
}

async fn upgraded(port: u16) -> Result<TcpStream, Failure> {
    let mut socket =
        TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    let head = "GET / HTTP/1.1\r\nHost: holder.localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\n\r\n";
    socket.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let read = socket.read_buf(&mut answer).await.map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("a connection ended before it was upgraded".to_owned());
        }
    }
    match answer.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(socket),
        false => Err(format!("no upgrade: {}", String::from_utf8_lossy(&answer))),
    }
}

/// Requests a second under full load.
fn load(url: &str) -> Result<f64, Failure> {
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "wrk", "-t1", "-c", &CONNECTIONS.to_string(), "-H", HOST]);
    let text = process::output(command.args(["-d", &format!("{SECONDS}s"), url]))?;
    if text.contains("Non-2xx") {
        return Err(format!("{url} was not answered well: {text}"));
    }
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    let rate = line.and_then(|rate| rate.trim().parse().ok());
    rate.ok_or_else(|| format!("wrk says no rate: {text}"))
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn pinned(command: &mut Command) -> Result<Ended, Failure> {
    let mut all = Command::new("taskset");
    all.args(["-c", "0"]).arg(command.get_program()).args(command.get_args());
    all.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    all.spawn()
        .map(Ended)
        .map_err(|error| format!("cannot start {}: {error}", process::describe(&all)))
}

fn write(path: &PathBuf, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn free_port() -> Result<u16, Failure> {
    let socket = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    Ok(socket.local_addr().map_err(|error| error.to_string())?.port())
}

fn wait_for(url: &str) -> Result<(), Failure> {
    let start = Instant::now();
    while !process::works(Command::new("curl").args([
        "--silent",
        "--fail",
        "--noproxy",
        "*",
        "--header",
        HOST,
        url,
    ])) {
        if start.elapsed() > PATIENCE {
            return Err(format!("{url} does not answer"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn wait_for_port(port: u16) -> Result<(), Failure> {
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if start.elapsed() > PATIENCE {
            return Err(format!("nothing listens on port {port}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

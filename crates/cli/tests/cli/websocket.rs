//! A real WebSocket library on both sides, directly and through the gateway: the same bytes.

use crate::support::{Home, Server};
use std::process::Command;

/// Python's `websockets`, as an instance and as a client find it.
const PYTHON: &str = "/usr/bin/python3";

/// Echoes messages as they come; a text `close CODE REASON` closes.
const ECHO: &str = r#"
import asyncio, sys
import websockets

async def echo(socket, path=None):
    async for message in socket:
        if isinstance(message, str) and message.startswith("close "):
            _, code, reason = message.split(" ", 2)
            await socket.close(int(code), reason)
            return
        await socket.send(message)

async def main():
    # No compression: what is compared are the bytes of the messages.
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=None, compression=None):
        await asyncio.Future()

asyncio.run(main())
"#;

/// Prints one line for each thing that it tried, the same wherever the server is.
const CLIENT: &str = r#"
import asyncio, hashlib, sys
import websockets

def told(message):
    data = message.encode() if isinstance(message, str) else message
    print(type(message).__name__, len(data), hashlib.sha256(data).hexdigest())

async def main():
    options = {"max_size": None, "compression": None, "open_timeout": 60}
    async with websockets.connect(sys.argv[1], **options) as socket:
        for size in [0, 1, 125, 126, 65535, 65536, 1 << 20, 16 << 20]:
            await socket.send(bytes((place * 31) & 255 for place in range(size)))
            told(await socket.recv())
        await socket.send("h\u00e9llo \U0001f600")
        told(await socket.recv())
        await socket.send([b"in ", b"", b"many ", b"fragments" * 1000])
        told(await socket.recv())
        await socket.send(iter(["te", "xt ", "too"]))
        told(await socket.recv())
        pong = await socket.ping(b"are you there?")
        await asyncio.wait_for(pong, 60)
        print("pong")
        for index in range(1000):
            await socket.send(str(index))
        print([await socket.recv() for _ in range(1000)] == [str(it) for it in range(1000)])
        await socket.close(1000, "done")
        print("closed", socket.close_code, socket.close_reason)
    for code in [1000, 1001, 1008, 1011, 3000, 4999]:
        async with websockets.connect(sys.argv[1], **options) as socket:
            await socket.send(f"close {code} because of {code}")
            try:
                await socket.recv()
            except websockets.ConnectionClosed:
                pass
            print("was closed", socket.close_code, socket.close_reason)

asyncio.run(main())
"#;

fn client(home: &Home, url: &str) -> String {
    let script = home.write("client.py", CLIENT);
    let output =
        Command::new(PYTHON).args([&script, url]).env_clear().output().expect("Python runs");
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_websocket_carries_the_same_through_the_gateway_as_without_it() {
    let server = Server::start_with(Home::new(), &["--allow-host-network"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("it is bound").port();
    drop(free);
    let echo = ECHO.replace('\n', "\n        ");
    server.apply(&format!(
        "sessions:\n  echo:\n    run: [{PYTHON}, /srv/echo.py, '{port}']\n    ports: [{port}]\n    \
         memory: 256M\n    network: host\n    access: public\n    files:\n      /srv/echo.py: |\n        {echo}\n"
    ));
    let gateway = server.url.rsplit(':').next().expect("a port").to_owned();
    let through = client(&server.home, &format!("ws://127.0.0.1:{gateway}/s/echo/alice/"));
    let direct = client(&server.home, &format!("ws://127.0.0.1:{port}/"));
    assert_eq!(through, direct);
    assert_eq!(direct.lines().count(), 20, "{direct}");
}

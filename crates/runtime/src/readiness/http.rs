//! One HTTP GET (RFC 9110, RFC 9112) of which only the status counts.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Time for the request and the head of the answer. A server that is slower is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Bytes of the heads of an answer and of those before it (status 1xx): more than any server sends.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// There is no status.
#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The answer is no HTTP, or too long.
    #[error("what answers does not speak HTTP")]
    NotHttp,
    /// No answer in time.
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    TimedOut,
}

/// Asks for `path` and gives the status of the answer.
pub(super) async fn get(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    port: u16,
) -> Result<u16, GetError> {
    let asked = async {
        stream.write_all(request(path, port).as_bytes()).await?;
        stream.flush().await?;
        read_status(&mut stream).await
    };
    tokio::time::timeout(ANSWER_WITHIN, asked).await.map_err(|_| GetError::TimedOut)?
}

fn request(path: &str, port: u16) -> String {
    // A manifest's path is text of any kind; a request's target is not.
    let mut target = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            0x21..=0x7e if byte != b'#' => target.push(char::from(byte)),
            _ => _ = write!(target, "%{byte:02X}"),
        }
    }
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: spawnery\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    )
}

/// The status of the first answer that is not a preliminary one.
async fn read_status(stream: &mut (impl AsyncRead + Unpin)) -> Result<u16, GetError> {
    let mut head = Vec::new();
    loop {
        while let Some((status, used)) = take_status(&head)? {
            if !(100..200).contains(&status) {
                return Ok(status);
            }
            // Its own end has to be seen before the next one begins.
            let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                break;
            };
            head.drain(..used.max(end + 4));
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(GetError::NotHttp);
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(GetError::NotHttp);
        }
    }
}

/// The status of a head and the bytes of its first line, once that is all there.
fn take_status(head: &[u8]) -> Result<Option<(u16, usize)>, GetError> {
    const START: &[u8] = b"HTTP/1.";
    let seen = head.len().min(START.len());
    if head[..seen] != START[..seen] {
        return Err(GetError::NotHttp);
    }
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let status = || {
        let line = std::str::from_utf8(head[..end].trim_ascii_end()).ok()?;
        let mut words = line.split(' ');
        let (_, status) = (words.next()?, words.next()?);
        let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
        is_status.then(|| status.parse().ok()).flatten()
    };
    let status = status().filter(|status| *status >= 100).ok_or(GetError::NotHttp)?;
    Ok(Some((status, end + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(answer: &[&str]) -> Result<u16, GetError> {
        let (near, mut far) = tokio::io::duplex(HEAD_BYTES_MAX * 2);
        for part in answer {
            far.write_all(part.as_bytes()).await.expect("there is room");
        }
        // Nothing more comes, but what was asked has a place.
        let (mut rest, writer) = tokio::io::split(far);
        let reading = tokio::spawn(async move {
            let mut asked = Vec::new();
            let mut buffer = [0; 1024];
            while !asked.ends_with(b"\r\n\r\n") {
                match rest.read(&mut buffer).await {
                    Ok(read) if read > 0 => asked.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            drop((rest, writer));
        });
        let status = get(near, "/", 80).await;
        reading.await.expect("no panic");
        status
    }

    #[tokio::test]
    async fn the_status_is_that_of_the_last_head() {
        let table: [(&[&str], Option<u16>); 9] = [
            (&["HTTP/1.1 200 OK\r\n\r\n"], Some(200)),
            (&["HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nbody"], Some(404)),
            (&["HTTP/1.1 204\r\n"], Some(204)),
            (&["HT", "TP/1.1 50", "3 Later\r\n\r\n"], Some(503)),
            (&["HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 302 Found\r\n\r\n"], Some(302)),
            (&["HTTP/1.1 100 Continue\r\n\r\n"], None),
            (&["SSH-2.0-OpenSSH\r\n"], None),
            (&["HTTP/1.1 2000 OK\r\n\r\n"], None),
            (&[""], None),
        ];
        for (answer, expected) in table {
            assert_eq!(ask(answer).await.ok(), expected, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_given_up() {
        let endless = "HTTP/1.1 100 Continue\r\nA: ".to_owned() + &"a".repeat(HEAD_BYTES_MAX);
        assert!(matches!(ask(&[&endless]).await, Err(GetError::NotHttp)));
    }

    #[test]
    fn nothing_in_a_path_can_be_taken_for_more_than_a_path() {
        let table = [
            ("/up?a=b&c=%20", "/up?a=b&c=%20"),
            ("/a b\r\nX: y", "/a%20b%0D%0AX:%20y"),
            ("/ü#x", "/%C3%BC%23x"),
        ];
        for (path, expected) in table {
            let request = request(path, 8080);
            let expected = format!("GET {expected} HTTP/1.1\r\nHost: localhost:8080\r\n");
            assert!(request.starts_with(&expected), "{request}");
        }
    }
}

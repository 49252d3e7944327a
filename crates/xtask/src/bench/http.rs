//! A client of few steps, so that what is measured is the server: HTTP/1.1 on one connection that
//! stays open (RFC 9112).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::Server;
use crate::Failure;

/// An open connection.
pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    token: String,
    /// What was read; `taken` bytes of it are used.
    buffer: Vec<u8>,
    taken: usize,
    body: Body,
}

/// What is still to come of the answer's body.
#[derive(Clone, Copy, PartialEq)]
enum Body {
    Ended,
    /// So many bytes.
    Length(usize),
    /// Chunks until an empty one.
    Chunked,
}

impl Connection {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn open(server: &Server) -> Result<Connection, Failure> {
        Connection::to(server.address, server.token.clone()).await
    }

    /// Connects to an address with a token.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn to(address: SocketAddr, token: String) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (buffer, taken, body) = (Vec::new(), 0, Body::Ended);
        Ok(Connection { stream, address, token, buffer, taken, body })
    }

    /// Asks, and reads the answer up to its body.
    ///
    /// # Errors
    ///
    /// When the answer is no success, with its body.
    pub async fn send(&mut self, method: &str, path: &str, body: &str) -> Result<(), Failure> {
        let (address, token, length) = (self.address, &self.token, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let head = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(found, _)| *found == name).map(|(_, value)| value.trim().to_owned())
        };
        self.body = match header("content-length") {
            _ if header("transfer-encoding").is_some_and(|it| it == "chunked") => Body::Chunked,
            Some(length) => Body::Length(length.parse().map_err(|_| "a wrong content-length")?),
            None => Body::Ended,
        };
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if status.starts_with('2') {
            return Ok(());
        }
        let text = self.rest().await?;
        Err(format!("{method} {path} was answered by {status}: {}", String::from_utf8_lossy(&text)))
    }

    /// The next part of the body as it comes, or `None` at its end.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub async fn part(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self.body {
            Body::Ended => Ok(None),
            Body::Length(length) => {
                self.body = Body::Ended;
                Ok(Some(self.exactly(length).await?))
            }
            Body::Chunked => {
                let line = self.until(b"\r\n").await?;
                let text = String::from_utf8_lossy(&line);
                let length = usize::from_str_radix(text.trim(), 16);
                let length = length.map_err(|_| format!("{text:?} is no chunk size"))?;
                let mut chunk = self.exactly(length + 2).await?;
                chunk.truncate(length);
                if length == 0 {
                    self.body = Body::Ended;
                    return Ok(None);
                }
                Ok(Some(chunk))
            }
        }
    }

    /// What is left of the body.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub async fn rest(&mut self) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(part) = self.part().await? {
            all.extend(part);
        }
        Ok(all)
    }

    /// What comes up to and with a mark.
    async fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, Failure> {
        loop {
            let unread = &self.buffer[self.taken..];
            if let Some(at) = unread.windows(mark.len()).position(|window| window == mark) {
                return self.exactly(at + mark.len()).await;
            }
            self.fill().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        while self.buffer.len() < self.taken + length {
            self.fill().await?;
        }
        let bytes = self.buffer[self.taken..self.taken + length].to_vec();
        self.taken += length;
        Ok(bytes)
    }

    async fn fill(&mut self) -> Result<(), Failure> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the client reads from an answer that arrives in pieces of a size.
    async fn read(answer: &'static str, size: usize) -> Result<Vec<u8>, Failure> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the client comes");
            for piece in answer.as_bytes().chunks(size) {
                stream.write_all(piece).await.expect("the client listens");
                stream.flush().await.expect("the client listens");
            }
            stream
        });
        let mut connection = Connection::to(address, "secret".to_owned()).await?;
        connection.send("GET", "/", "").await?;
        let body = connection.rest().await;
        drop(server.await);
        body
    }

    #[tokio::test]
    async fn bodies_of_both_kinds_are_read_however_they_arrive() {
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let chunks =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        for size in [1, 7, 1000] {
            assert_eq!(read(length, size).await.as_deref(), Ok(&b"hello"[..]));
            assert_eq!(read(chunks, size).await.as_deref(), Ok(&b"hello"[..]));
        }
        let none = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(read(none, 1000).await.as_deref(), Ok(&b""[..]));
    }

    #[tokio::test]
    async fn a_refusal_is_an_error_with_its_reason() {
        let refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nnothing";
        let error = read(refusal, 1000).await.expect_err("it is no success");
        assert!(error.contains("404") && error.contains("nothing"), "{error}");
    }
}

//! One GET at a plugin's own address: plain HTTP, one connection, a bounded answer.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// At most the first `limit` bytes of the answer to a GET of `url`, which begins with `http://`; `headers`
/// are whole lines. The version is that of the request line.
pub(crate) async fn get(url: &str, version: &str, headers: &str, limit: u64) -> io::Result<Vec<u8>> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /{path} {version}\r\nHost: {host}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(limit).read_to_end(&mut answer).await?;
    Ok(answer)
}

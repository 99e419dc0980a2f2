//! A plugin's own metrics endpoint, asked in the background: a scrape of the server never waits for one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::lines::LatestMetrics;
use crate::http;

/// Between two questions.
const SCRAPE_EVERY: Duration = Duration::from_secs(15);
/// For one answer.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two questions until the first answer: the plugin may still be on its way.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Bytes of an answer that are read.
const ANSWER_MAX_BYTES: u64 = 1024 * 1024;

/// Asks for as long as it is held; then the answers are forgotten.
#[derive(Debug)]
pub(crate) struct Scraper {
    task: JoinHandle<()>,
    latest_metrics: Arc<LatestMetrics>,
}

impl Scraper {
    /// Asks `url`, which begins with `http://`, for the plugin shown as `label`.
    pub(crate) fn new(label: String, url: String, latest_metrics: Arc<LatestMetrics>) -> Self {
        let answers = Arc::clone(&latest_metrics);
        let task = tokio::spawn(async move {
            let mut works = None;
            loop {
                let answer = timeout(SCRAPE_TIMEOUT, scrape(&url))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                let answers_now = answer.is_ok();
                // The first failures are those of a plugin that is still starting.
                if let Err(error) = &answer
                    && works == Some(true)
                {
                    tracing::warn!(target: "larder_supervise", "Runtime plugin {label}: its metrics at {url} cannot be had: {error}");
                }
                answers.set_scraped(answer.unwrap_or_default());
                if answers_now || works.is_some() {
                    works = Some(answers_now);
                }
                sleep(if works.is_some() { SCRAPE_EVERY } else { FIRST_PAUSE }).await;
            }
        });
        Self { task, latest_metrics }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.task.abort();
        self.latest_metrics.set_scraped(String::new());
    }
}

async fn scrape(url: &str) -> io::Result<String> {
    // Of version 1.0, so that the answer comes in one piece and ends with the connection.
    let answer = http::get(url, "HTTP/1.0", "Accept: text/plain\r\n", ANSWER_MAX_BYTES + 1).await?;
    let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    if answer.len() as u64 > ANSWER_MAX_BYTES {
        return Err(wrong("the answer is too long"));
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| wrong("no HTTP answer"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        status => Err(wrong(&format!("answered with status {}", status.unwrap_or("unknown")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn answering(answer: Vec<u8>) -> (TcpListener, String, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        (listener, url, answer)
    }

    async fn serve_once(listener: &TcpListener, answer: &[u8]) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        _ = stream.read(&mut request).await;
        // Who does not want all of it closes the connection.
        _ = stream.write_all(answer).await;
    }

    #[tokio::test]
    async fn answers_are_taken_and_bounded() {
        let long = [b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), vec![b'x'; ANSWER_MAX_BYTES as usize + 1]].concat();
        for (answer, expected) in [
            (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\njobs 1\n".to_vec(), Some("jobs 1\n")),
            (b"HTTP/1.1 503 No\r\n\r\njobs 1\n".to_vec(), None),
            (b"garbage".to_vec(), None),
            (long, None),
        ] {
            let (listener, url, answer) = answering(answer).await;
            let (text, ()) = tokio::join!(scrape(&url), serve_once(&listener, &answer));
            assert_eq!(text.ok().as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn what_was_scraped_is_gone_with_the_run() {
        let (listener, url, answer) = answering(b"HTTP/1.0 200 OK\r\n\r\njobs 1\n".to_vec()).await;
        let latest_metrics = Arc::new(LatestMetrics::default());
        let scraper = Scraper::new("p".into(), url, Arc::clone(&latest_metrics));
        serve_once(&listener, &answer).await;
        while latest_metrics.text().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(latest_metrics.text(), "jobs 1\n");
        drop(scraper);
        assert_eq!(latest_metrics.text(), "");
    }
}

//! Load for `echo`: `load ENDPOINT [PAYLOAD_BYTES [IN_FLIGHT [MESSAGES [CONNECTIONS]]]]`.
//!
//! Prints the median and 99th percentile of the round trip, and the rate. Messages have the shape of a
//! request: an empty frame, a 16 byte id, a 4 byte operation and the payload.

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_zmtp::{Dealer, Endpoint};
use tokio::task::JoinSet;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let endpoint: Endpoint = args.next().ok_or("an endpoint is needed")?.parse()?;
    let mut number = |default: usize| args.next().map_or(Ok(default), |text| text.parse());
    let payload_bytes = number(256)?;
    let in_flight = number(1)?;
    let messages = number(50_000)?;
    let connections = number(1)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(round_trips(endpoint.clone(), payload_bytes, in_flight, messages / connections));
        }
        let mut times = Vec::with_capacity(messages);
        while let Some(done) = tasks.join_next().await {
            times.extend(done??);
        }
        let elapsed = started.elapsed();
        times.sort_unstable();
        let rate = times.len() as f64 / elapsed.as_secs_f64();
        let p50 = times[times.len() / 2];
        let p99 = times[times.len() * 99 / 100];
        println!("p50 {p50:?} p99 {p99:?} rate {rate:.0}/s");
        Ok(())
    })
}

async fn round_trips(
    endpoint: Endpoint,
    payload_bytes: usize,
    in_flight: usize,
    messages: usize,
) -> larder_zmtp::Result<Vec<Duration>> {
    let mut dealer = Dealer::connect(&endpoint).await?;
    let payload = Bytes::from(vec![7; payload_bytes]);
    let id = Bytes::from_static(&[1; 16]);
    let operation = Bytes::from_static(&[2; 4]);
    let request = [Bytes::new(), id, operation, payload];
    let mut sent = VecDeque::new();
    let mut times = Vec::with_capacity(messages);
    let mut left = messages;
    while times.len() < messages {
        while sent.len() < in_flight && left > 0 {
            sent.push_back(Instant::now());
            dealer.queue(request.clone());
            left -= 1;
        }
        dealer.recv().await?;
        if let Some(started) = sent.pop_front() {
            times.push(started.elapsed());
        }
    }
    Ok(times)
}

//! A router and a dealer of this crate talk to each other.

use bytes::Bytes;
use larder_zmtp::{Dealer, Limits};

use crate::common::{Echo, Server};

fn parts(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

#[tokio::test]
async fn messages_of_all_sizes_over_every_transport() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_at(
        &[
            "tcp://127.0.0.1:0",
            "tcp://localhost:0",
            &format!("ipc://{}/echo", dir.path().display()),
            &format!("ipc://@larder-zmtp-echo-{}", std::process::id()),
        ],
        Limits::default(),
        Echo,
    );
    for endpoint in &server.endpoints {
        let mut dealer = Dealer::connect(endpoint).await.unwrap();
        for message in [
            parts(&["a"]),
            parts(&["", "b", ""]),
            vec![Bytes::from(vec![7; 70_000]), Bytes::from_static(b"end")],
            vec![Bytes::from(vec![7; 9_000_000]); 2],
        ] {
            dealer.send(message.clone()).await.unwrap();
            assert!(dealer.recv().await.unwrap() == message);
        }
    }
}

#[tokio::test]
async fn pipelined_messages_are_answered_in_order() {
    let server = Server::start(Limits::default(), Echo);
    let mut dealer = Dealer::connect(&server.endpoints[0]).await.unwrap();
    let messages: Vec<Vec<Bytes>> = (0..5000usize)
        .map(|index| vec![Bytes::from(index.to_string()), Bytes::from(vec![1; index])])
        .collect();
    for message in &messages {
        dealer.queue(message.clone());
    }
    dealer.flush().await.unwrap();
    for message in &messages {
        assert!(dealer.recv().await.unwrap() == *message);
    }
}

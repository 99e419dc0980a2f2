//! A router and a dealer of this crate talk to each other.

use crate::common::{Echo, with_router};
use bytes::Bytes;
use larder_zmtp::{Dealer, Endpoint, Limits};

fn parts(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

#[test]
fn one_message_over_every_transport() {
    let dir = tempfile::tempdir().unwrap();
    let endpoints = [
        "tcp://127.0.0.1:0".to_owned(),
        "tcp://localhost:0".to_owned(),
        format!("ipc://{}/echo", dir.path().display()),
        format!("ipc://@larder-zmtp-echo-{}", std::process::id()),
    ];
    let endpoints: Vec<Endpoint> = endpoints.iter().map(|text| text.parse().unwrap()).collect();
    with_router(&endpoints, Limits::default(), Echo, async |router| {
        for endpoint in &router.endpoints {
            let mut dealer = Dealer::connect(endpoint).await.unwrap();
            for message in [parts(&["a"]), parts(&["", "b", ""]), vec![Bytes::from(vec![7; 3_000_000]); 2]] {
                dealer.send(message.clone()).await.unwrap();
                assert_eq!(dealer.recv().await.unwrap(), message);
            }
        }
    });
}

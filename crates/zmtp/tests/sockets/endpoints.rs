//! Binding: ports, several addresses, and what stands at an ipc path.

use std::os::unix::net::UnixListener;

use larder_zmtp::{Dealer, Endpoint, Error, Limits, Router};

use crate::common::{Echo, Server};

fn bind(text: &str) -> larder_zmtp::Result<Router> {
    Router::bind(&[text.parse()?], Limits::default())
}

#[tokio::test]
async fn the_chosen_port_is_reported_and_the_same_for_every_address() {
    for text in ["tcp://127.0.0.1:0", "tcp://localhost:0", "tcp://*:0"] {
        let router = bind(text).unwrap();
        let ports: Vec<u16> = router
            .endpoints()
            .iter()
            .map(|endpoint| match endpoint {
                Endpoint::Tcp { port, .. } => *port,
                other => panic!("{other}"),
            })
            .collect();
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{text}: {ports:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let first = bind("tcp://127.0.0.1:0").unwrap();
    let text = first.endpoints()[0].to_string();
    match bind(&text) {
        Err(Error::Bind { endpoint, source }) => {
            assert_eq!(endpoint, text);
            assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dead_path_is_taken_over_and_removed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Server::start_at(&[&format!("ipc://{}", path.display())], Limits::default(), Echo);
    server.probe();
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_living_path_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("ipc://{}/socket", dir.path().display());
    let server = Server::start_at(&[&text], Limits::default(), Echo);
    assert!(matches!(bind(&text), Err(Error::InUse { endpoint }) if endpoint == text));
    server.probe();
}

#[tokio::test]
async fn a_path_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "precious").unwrap();
    let text = format!("ipc://{}", path.display());
    assert!(matches!(bind(&text), Err(Error::NotASocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_path_which_somebody_else_took_over_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let router = bind(&format!("ipc://{}", path.display())).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "another's").unwrap();
    drop(router);
    assert!(path.exists());
}

#[tokio::test]
async fn nobody_listening_is_an_error_with_the_endpoint() {
    let text = "ipc:///nonexistent/larder";
    let error = Dealer::connect(&text.parse().unwrap()).await.unwrap_err();
    assert!(matches!(&error, Error::Connect { endpoint, .. } if endpoint == text), "{error}");
}

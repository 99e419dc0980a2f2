//! The examples as processes: what needs another process's limits, or libzmq.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use larder_zmtp::codec::GREETING;

use crate::common::{PATIENCE, eventually, handshake};

/// Where cargo puts the examples, beside the folder of the tests.
fn examples() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let examples = test.ancestors().nth(2).unwrap().join("examples");
    assert!(
        examples.join("echo").exists(),
        "build the examples first: `cargo build -p larder-zmtp --examples`"
    );
    examples
}

struct Echo {
    process: Child,
    address: String,
}

impl Echo {
    /// Starts the echo server with at most `files_max` open files.
    fn start(files_max: u32) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", &format!("ulimit -n {files_max} && exec \"$0\" tcp://127.0.0.1:0")])
            .arg(examples().join("echo"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("tcp://").unwrap().to_owned();
        Self { process, address }
    }

    /// Connects without waiting for an answer.
    fn connect(&self) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&handshake(b"")).unwrap();
        stream
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let ended = self.process.wait().unwrap();
        assert!(ended.success() || std::thread::panicking(), "{ended}");
    }
}

fn expect_greeting(stream: &mut TcpStream) {
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting, GREETING);
}

#[test]
fn accepting_goes_on_after_running_out_of_files() {
    let echo = Echo::start(32);
    let mut streams: Vec<TcpStream> = (0..100).map(|_| echo.connect()).collect();
    expect_greeting(&mut streams[0]);
    let open = || std::fs::read_dir(format!("/proc/{}/fd", echo.process.id())).unwrap().count();
    // More if some were inherited from beyond the limit.
    eventually("all files are in use", || open() >= 32);
    // Those in front leave room for those behind.
    for mut stream in streams.drain(..).skip(1) {
        expect_greeting(&mut stream);
    }
    expect_greeting(&mut echo.connect());
}

#[test]
fn libzmq_agrees() {
    let Ok(python) = std::env::var("LARDER_PYTHON") else {
        eprintln!("skipped: LARDER_PYTHON does not name a python with pyzmq");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop.py");
    let ended = Command::new(python).arg(script).arg(examples()).status().unwrap();
    assert!(ended.success(), "{ended}");
}

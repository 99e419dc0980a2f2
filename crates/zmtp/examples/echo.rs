//! Echoes every message, for measurements and interoperability checks: `echo ENDPOINT...`.
//!
//! Prints each endpoint it listens on. A message whose last frame is `later` is answered from another thread,
//! one whose last frame is `stats` with the counters. It ends when its standard input does.

use std::error::Error;
use std::io::Read;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use larder_zmtp::{Endpoint, Handle, Handler, Limits, Message, Peer, Router};

struct Echo {
    handle: Handle,
    later: mpsc::Sender<Message>,
}

impl Handler for Echo {
    fn message(&self, _: &Peer, message: Message) {
        let answered = match message.parts.last().map(|part| &part[..]) {
            Some(b"later") => {
                // The answering thread lives as long as this handler.
                _ = self.later.send(message);
                Ok(())
            }
            Some(b"stats") => {
                let text = format!("{:?}", self.handle.stats().snapshot());
                message.permit.reply([Bytes::from(text)])
            }
            _ => message.permit.reply(message.parts),
        };
        if let Err(error) = answered {
            eprintln!("reply: {error}");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let endpoints: Vec<Endpoint> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let router = Router::bind(&endpoints, Limits::default())?;
        for endpoint in router.endpoints() {
            println!("{endpoint}");
        }
        let (later, messages) = mpsc::channel::<Message>();
        std::thread::spawn(move || {
            for message in messages {
                _ = message.permit.reply(message.parts);
            }
        });
        let handle = router.handle();
        std::thread::spawn({
            let handle = handle.clone();
            move || {
                _ = std::io::stdin().read_to_end(&mut Vec::new());
                handle.close();
            }
        });
        router.serve(Arc::new(Echo { handle, later })).await;
        Ok(())
    })
}

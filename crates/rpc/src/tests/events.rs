//! What a subscriber of the event stream is sent, and when.

use larder_core::hash::ChunkHash;
use larder_wire::events::{KvEventBatch, KvEventKind};
use larder_wire::reply::StreamControl;

use super::transfers::worker_key;
use super::*;
use larder_engine::EngineConfig;
use larder_engine::fixtures::{WORKER, prompt};

const FOLLOW: Request<'_> =
    Request::SubscribeKvEvents { instance_id: 1, model_name: "m", cursor: 0, max_events: 2 };

/// Sequence number, kind, chunk, the chunk before it, and tokens.
type Told = (u64, KvEventKind, Vec<u8>, Option<Vec<u8>>, Vec<u32>);

impl Client {
    /// The next batch of the stream opened under this uid.
    async fn batch<T>(&mut self, uid: &Bytes, read: impl FnOnce(KvEventBatch<'_>) -> T) -> T {
        let message = self.answer().await;
        assert_eq!((&message[0], message.len()), (uid, 3));
        match decode_reply(Operation::SubscribeKvEvents, &message[1], Some(&message[2])).unwrap() {
            Response::KvEvents(batch) => read(batch),
            other => panic!("{other:?}"),
        }
    }

    fn say(&mut self, uid: &Bytes, word: &'static [u8]) {
        self.dealer.queue([uid.clone(), Bytes::new(), Bytes::from_static(word)]);
    }
}

fn told(batch: &KvEventBatch<'_>) -> Vec<Told> {
    let event = |event: &larder_wire::events::KvEvent<'_>| {
        assert_eq!((event.medium, event.model_name, event.block_hashes.len()), ("CPU", "m", 1));
        let parent = event.parent_block_hash.map(<[u8]>::to_vec);
        (event.seq, event.kind, event.block_hashes[0].to_vec(), parent, event.token_ids.to_vec().unwrap())
    };
    batch.events.iter().map(event).collect()
}

fn chunks(tokens: &[u32]) -> Vec<ChunkHash> {
    let mut hashes = Vec::new();
    hasher().extend(None, tokens, &mut hashes);
    hashes
}

#[test]
fn a_subscriber_is_sent_one_batch_for_each_word_until_it_cancels() {
    let engine = bare_engine(16, EngineConfig { incarnation_ns: 77, ..config() });
    with_engine(engine, super::transfers::shared(), Limits::default(), async |rig: Rig| {
        let Rig { mut client, engine, endpoint, .. } = rig;
        client.register().await;
        let mut listener = Client { dealer: Dealer::connect(&endpoint).await.unwrap(), sent: 0 };
        let uid = listener.queue(&FOLLOW);
        let first = listener.batch(&uid, |batch| {
            (batch.enabled, batch.incarnation, batch.next_cursor, batch.lost, batch.events.len())
        });
        assert_eq!(first.await, (true, 77, 0, false, 0));
        let tokens = prompt(1, 4);
        let ids = IdBuffer::new(&tokens);
        client.store(&engine, worker_key(&ids, "s", 0, 48)).await;
        let hashes = chunks(&tokens);
        let stored = |index: usize| -> Told {
            let parent = index.checked_sub(1).map(|parent| hashes[parent].as_bytes().to_vec());
            let part = tokens[index * 16..(index + 1) * 16].to_vec();
            (index as u64 + 1, KvEventKind::Stored, hashes[index].as_bytes().to_vec(), parent, part)
        };
        listener.say(&uid, b"more");
        listener.say(&Bytes::from_static(b"nobody"), StreamControl::Ack.word());
        assert_eq!(listener.call(&Request::Noop).await, Ok(Some("Str(\"OK\")".into())), "neither is a word");
        listener.say(&uid, StreamControl::Ack.word());
        assert_eq!(listener.batch(&uid, |batch| told(&batch)).await, [stored(0), stored(1)]);
        listener.say(&uid, StreamControl::Ack.word());
        assert_eq!(
            listener.batch(&uid, |batch| (told(&batch), batch.next_cursor)).await,
            (vec![stored(2)], 3)
        );
        // With credit, and nothing new yet, it is told as soon as there is.
        listener.say(&uid, StreamControl::Ack.word());
        assert_eq!(listener.call(&Request::Noop).await, Ok(Some("Str(\"OK\")".into())));
        client.call(&Request::UnregisterKvCacheEngineDrivenContext { instance_id: WORKER }).await.unwrap();
        client.call(&Request::Clear { force: false }).await.unwrap();
        let gone = listener.batch(&uid, |batch| {
            let [event] = &batch.events[..] else { panic!("{:?}", batch.events) };
            (event.kind, event.block_hashes.len(), event.token_ids.len(), event.parent_block_hash.is_some())
        });
        assert_eq!(gone.await, (KvEventKind::Removed, 3, 0, false));
        assert!(engine.wants_tokens());
        listener.say(&uid, StreamControl::Cancel.word());
        assert_eq!(listener.answer().await, [uid.clone(), Operation::SubscribeKvEvents.to_frame().into()]);
        assert!(!engine.wants_tokens(), "nobody listens");
        listener.say(&uid, StreamControl::Ack.word());
        listener.say(&uid, StreamControl::Cancel.word());
        assert_eq!(listener.call(&Request::Noop).await, Ok(Some("Str(\"OK\")".into())), "it is over");
    });
}

#[test]
fn a_subscriber_of_a_server_without_an_event_log_is_told_so() {
    let engine = bare_engine(16, EngineConfig { kv_event_log_size: 0, ..config() });
    with_engine(engine, front_config(), Limits::default(), async |Rig { mut client, engine, .. }| {
        let uid = client.queue(&FOLLOW);
        assert_eq!(client.batch(&uid, |batch| (batch.enabled, batch.events.len())).await, (false, 0));
        assert!(!engine.wants_tokens());
    });
}

//! The log behind the KV event stream: what was stored and removed lately, readable from a cursor
//! (`spec/cache-semantics.md` 12).

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::hash::ChunkHash;

/// Most models of which it is known how far their records have left the log; beyond it what one of them lost
/// counts for all.
const MODELS_MAX: usize = 1_024;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvEventKind {
    /// A chunk can be read.
    Stored {
        /// The chunk before it in the prompt.
        parent: Option<ChunkHash>,
        /// Its tokens.
        tokens: Arc<[u32]>,
    },
    /// Chunks can't be read any more.
    Removed,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEvent {
    /// Position in the log, from 1, without gaps.
    pub seq: u64,
    /// The model.
    pub model_name: Arc<str>,
    /// The chunks.
    pub hashes: Vec<ChunkHash>,
    /// What happened to them.
    pub kind: KvEventKind,
}

/// What a subscriber gets in one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEventPage {
    /// Records of the subscriber's model after its cursor, oldest first.
    pub events: Vec<KvEvent>,
    /// The last position looked at: the next cursor.
    pub next_cursor: u64,
    /// Whether records of the subscriber's model between the cursor and the first of this page are missing,
    /// or may be.
    pub lost: bool,
}

/// The last records, up to a fixed number.
#[derive(Debug)]
pub struct KvEventLog {
    incarnation_ns: u64,
    capacity: usize,
    records: VecDeque<KvEvent>,
    next_seq: u64,
    /// Position of the last record of each model that left the log.
    left: HashMap<Arc<str>, u64>,
    /// Everything up to this position may have gaps that are not in the log, for every model.
    lost_through: u64,
}

impl KvEventLog {
    /// An empty log of up to `capacity` records; with 0 nothing is ever recorded.
    #[must_use]
    pub fn new(incarnation_ns: u64, capacity: usize) -> Self {
        Self {
            incarnation_ns,
            capacity,
            records: VecDeque::new(),
            next_seq: 1,
            left: HashMap::new(),
            lost_through: 0,
        }
    }

    /// Tells this log from that of another run of the server.
    #[must_use]
    pub fn incarnation_ns(&self) -> u64 {
        self.incarnation_ns
    }

    /// Whether records are kept at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.capacity > 0
    }

    /// Most records kept.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Records kept now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The position the next record gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Appends a record; the oldest one makes room.
    pub fn push(&mut self, model_name: Arc<str>, hashes: Vec<ChunkHash>, kind: KvEventKind) {
        if self.capacity == 0 {
            return;
        }
        if self.records.len() == self.capacity
            && let Some(oldest) = self.records.pop_front()
        {
            self.note_left(oldest);
        }
        self.records.push_back(KvEvent { seq: self.next_seq, model_name, hashes, kind });
        self.next_seq += 1;
    }

    fn note_left(&mut self, record: KvEvent) {
        self.left.insert(record.model_name, record.seq);
        if self.left.len() > MODELS_MAX {
            self.lost_through = self.lost_through.max(record.seq);
            self.left.clear();
        }
    }

    /// Notes that something happened that is not in the log. It takes a position of its own: who reads across
    /// it is told that records are missing.
    pub fn mark_lost(&mut self) {
        if self.capacity > 0 {
            self.lost_through = self.next_seq;
            self.next_seq += 1;
            self.records.clear();
            self.left.clear();
        }
    }

    /// Up to `max_events` records of `model_name` after `cursor`.
    #[must_use]
    pub fn read(&self, model_name: &str, cursor: u64, max_events: usize) -> KvEventPage {
        let oldest = self.next_seq - self.records.len() as u64;
        let last = self.next_seq - 1;
        let left = self.left.get(model_name).copied().unwrap_or(0).max(self.lost_through);
        let lost = cursor > last || cursor < left;
        let from = if cursor > last { 0 } else { (cursor + 1).saturating_sub(oldest) };
        let mut page = KvEventPage { events: Vec::new(), next_cursor: last, lost };
        for record in self.records.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            if *record.model_name != *model_name {
                continue;
            }
            if page.events.len() == max_events {
                page.next_cursor = page.events.last().map_or(cursor, |event| event.seq);
                break;
            }
            page.events.push(record.clone());
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log(capacity: usize, models: &[&str]) -> KvEventLog {
        let mut log = KvEventLog::new(7, capacity);
        for model in models {
            log.push((*model).into(), vec![ChunkHash([0; 32])], KvEventKind::Removed);
        }
        log
    }

    fn read(log: &KvEventLog, cursor: u64, max: usize) -> (Vec<u64>, u64, bool) {
        let page = log.read("m", cursor, max);
        (page.events.iter().map(|event| event.seq).collect(), page.next_cursor, page.lost)
    }

    #[test]
    fn a_reader_goes_on_from_its_cursor() {
        let log = log(10, &["m", "x", "m", "m", "x"]);
        assert_eq!(read(&log, 0, 2), (vec![1, 3], 3, false));
        assert_eq!(read(&log, 3, 2), (vec![4], 5, false));
        assert_eq!(read(&log, 5, 2), (vec![], 5, false));
    }

    #[test]
    fn what_fell_out_of_the_log_is_told() {
        let log = log(2, &["m", "m", "m", "m"]);
        assert_eq!(read(&log, 0, 9), (vec![3, 4], 4, true));
        assert_eq!(read(&log, 2, 9), (vec![3, 4], 4, false));
        assert_eq!(read(&log, 9, 9), (vec![3, 4], 4, true), "a cursor of another run");
    }

    #[test]
    fn one_lost_record_is_told_and_no_record_of_another_model_counts() {
        let log = log(2, &["m", "x", "m", "x", "x"]);
        assert_eq!(read(&log, 2, 9), (vec![], 5, true), "record 3 is gone");
        assert_eq!(read(&log, 3, 9), (vec![], 5, false), "only records of another model are");
    }

    #[test]
    fn with_too_many_models_every_one_may_have_lost() {
        let models: Vec<String> = (0..=MODELS_MAX).map(|model| model.to_string()).collect();
        let mut log = log(1, &["m"]);
        for model in &models[..MODELS_MAX] {
            log.push(model.as_str().into(), vec![], KvEventKind::Removed);
        }
        assert_eq!(read(&log, 1, 9), (vec![], 1 + MODELS_MAX as u64, false));
        log.push(models[MODELS_MAX].as_str().into(), vec![], KvEventKind::Removed);
        assert!(log.left.len() <= MODELS_MAX && read(&log, 1, 9).2);
        assert!(!read(&log, 1 + MODELS_MAX as u64, 9).2);
    }

    #[test]
    fn a_gap_is_told_once() {
        let mut log = log(10, &["m", "m"]);
        log.mark_lost();
        log.push("m".into(), vec![], KvEventKind::Removed);
        assert_eq!(read(&log, 1, 9), (vec![4], 4, true));
        assert_eq!(read(&log, 2, 9), (vec![4], 4, true));
        assert_eq!(read(&log, 3, 9), (vec![4], 4, false));
    }

    #[test]
    fn a_log_says_what_it_is() {
        let log = log(3, &["m", "m"]);
        assert_eq!((log.incarnation_ns(), log.capacity(), log.len(), log.next_seq()), (7, 3, 2, 3));
        assert!(log.is_enabled() && !log.is_empty());
        let none = KvEventLog::new(7, 0);
        assert!(!none.is_enabled() && none.is_empty());
    }

    #[test]
    fn a_log_of_size_zero_keeps_nothing() {
        let mut log = log(0, &["m"]);
        log.mark_lost();
        assert_eq!(read(&log, 0, 9), (vec![], 0, false));
    }

    proptest! {
        /// A reader is told of a loss if and only if a record of its own model is missing from what it got.
        #[test]
        fn readers_get_every_record_of_their_model_or_are_told(
            capacity in 1usize..6,
            steps in prop::collection::vec((0usize..4, 1usize..4), 0..60),
        ) {
            let models = ["m", "x", "y"];
            let mut log = KvEventLog::new(7, capacity);
            let mut written: [Vec<u64>; 3] = Default::default();
            let mut cursors = [0u64; 3];
            for (step, max_events) in steps {
                if step < models.len() {
                    written[step].push(log.next_seq());
                    log.push(models[step].into(), vec![], KvEventKind::Removed);
                    continue;
                }
                for (model, cursor) in models.iter().zip(&mut cursors) {
                    let page = log.read(model, *cursor, max_events);
                    let own = &written[models.iter().position(|other| other == model).unwrap()];
                    let due = own.iter().copied().filter(|seq| *seq > *cursor && *seq <= page.next_cursor);
                    let got: Vec<u64> = page.events.iter().map(|event| event.seq).collect();
                    let due: Vec<u64> = due.collect();
                    prop_assert!(got.len() <= max_events && page.next_cursor >= *cursor);
                    prop_assert_eq!(page.lost, got != due, "{:?} of {:?}", got, due);
                    prop_assert!(due.ends_with(&got));
                    *cursor = page.next_cursor;
                }
            }
        }
    }
}

//! What writing a slot down costs: `cargo run --release -p larder-pool --example bench_directory`.

use std::hint::black_box;
use std::time::Instant;

use larder_pool::{Contents, Directory, DirectoryOptions, PoolError, Segment, SegmentOptions, SlotRecord};

const RECORDS: u32 = 1_000_000;

fn main() -> Result<(), PoolError> {
    let share = Some(format!("bench-directory-{}", std::process::id()));
    let segment = Segment::create(SegmentOptions { share, bytes: 4096, hugepages: false })?;
    let options = DirectoryOptions { stamp: 1, records_max: u64::from(RECORDS) };
    let mut directory = Directory::create(&segment, options)?;
    directory.publish()?;
    let record = |sequence: u32| SlotRecord {
        sequence: u64::from(sequence) + 1,
        offset: u64::from(sequence) * 4096,
        bytes: 4096,
        hash: [sequence as u8; 32],
        scope: 0,
        position: 0,
        seal: Some(u64::from(sequence)),
        is_being_written: false,
        left_at_s: None,
    };
    timed("put, first time", |slot| _ = black_box(directory.put(slot, &record(slot))));
    timed("put, again", |slot| _ = black_box(directory.put(slot, &record(slot))));
    let started = Instant::now();
    let records = Contents::read(&segment, 1)?.map_or(0, |contents| contents.records.len());
    println!("read {records} records: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    timed("clear", |slot| directory.clear(slot));
    Ok(())
}

fn timed(what: &str, work: impl FnMut(u32)) {
    let started = Instant::now();
    (0..RECORDS).for_each(work);
    println!("{what}: {:.0} ns each", started.elapsed().as_nanos() as f64 / f64::from(RECORDS));
}

//! Measures the `fs` adapter against plain writes and reads of the same directory, with as many threads and
//! the same flags.
//!
//! Usage: `bench_fs DIR [OBJECT_MIB=4] [OBJECTS=256] [THREADS=4] [odirect]`, or `bench_fs restart DIR
//! [FILES=100000]`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for the command line")]

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use larder_storage::adapters::fs::{FsAdapter, FsOptions};
use larder_storage::conformance::{object_bytes, object_key};
use larder_storage::{Adapter, HeapBuffer, LentBuffer as _, LoadItem, StoreItem, file_name};
use rustix::fs::OFlags;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    match args.first().map(String::as_str) {
        Some("restart") => runtime.block_on(restart(Path::new(&args[1]), number(&args, 2, 100_000))),
        Some(dir) => {
            let is_direct = args.iter().any(|arg| arg == "odirect");
            let (mib, objects) = (number(&args, 1, 4), number(&args, 2, 256));
            runtime.block_on(throughput(Path::new(dir), mib << 20, objects, number(&args, 3, 4), is_direct));
        }
        None => println!(
            "usage: bench_fs DIR [OBJECT_MIB] [OBJECTS] [THREADS] [odirect] | bench_fs restart DIR [FILES]"
        ),
    }
}

fn number(args: &[String], index: usize, default: usize) -> usize {
    args.get(index).and_then(|arg| arg.parse().ok()).unwrap_or(default)
}

async fn throughput(dir: &Path, len: usize, objects: usize, threads: usize, is_direct: bool) {
    let (plain_dir, our_dir) = (dir.join("plain"), dir.join("larder"));
    fs::create_dir_all(&plain_dir).unwrap();
    let buffers: Vec<Arc<HeapBuffer>> =
        (0..threads * 8).map(|index| HeapBuffer::copy_of(&object_bytes(index, len))).collect();
    let bytes = (len * objects) as f64;
    let report = |what: &str, start: Instant| {
        println!("{what:<24} {:>7.3} GB/s", bytes / start.elapsed().as_secs_f64() / 1e9);
    };

    let start = Instant::now();
    plain(&plain_dir, &buffers, objects, threads, (true, is_direct));
    report("plain write", start);
    let options = FsOptions { workers: threads, use_odirect: is_direct, ..FsOptions::new(&our_dir) };
    let adapter = FsAdapter::open(options).unwrap();
    let start = Instant::now();
    let batch = (0..objects).map(|index| StoreItem {
        key: object_key(index),
        buffer: Arc::<HeapBuffer>::clone(&buffers[index % buffers.len()]),
        seal: None,
    });
    assert!(adapter.store(batch.collect()).await.iter().all(Result::is_ok));
    report("adapter store", start);

    let start = Instant::now();
    plain(&plain_dir, &buffers, objects, threads, (false, is_direct));
    report("plain read", start);
    let start = Instant::now();
    let batch = (0..objects).map(|index| LoadItem {
        key: object_key(index),
        buffer: Arc::<HeapBuffer>::clone(&buffers[index % buffers.len()]),
    });
    assert!(adapter.load(batch.collect()).await.iter().all(Result::is_ok));
    report("adapter load", start);
    adapter.close().await;
    fs::remove_dir_all(plain_dir).unwrap();
    fs::remove_dir_all(our_dir).unwrap();
}

/// Writes or reads files with nothing around it.
fn plain(
    dir: &Path,
    buffers: &[Arc<HeapBuffer>],
    objects: usize,
    threads: usize,
    (is_write, is_direct): (bool, bool),
) {
    let mut options = File::options();
    options.read(!is_write).write(is_write).create(is_write);
    if is_direct {
        options.custom_flags(OFlags::DIRECT.bits().cast_signed());
    }
    let options = &options;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for index in (thread..objects).step_by(threads) {
                    let buffer = &buffers[index % buffers.len()];
                    let path = dir.join(index.to_string());
                    let file = options.open(path).unwrap();
                    let mut done = 0;
                    while done < buffer.len() {
                        let range = done..buffer.len();
                        done += if is_write {
                            buffer.pwrite_from(file.as_fd(), done as u64, range).unwrap()
                        } else {
                            buffer.pread_into(file.as_fd(), done as u64, range).unwrap()
                        };
                    }
                }
            });
        }
    });
}

async fn restart(dir: &Path, files: usize) {
    fs::create_dir_all(dir).unwrap();
    for index in 0..files {
        fs::write(dir.join(file_name(&object_key(index)).unwrap()), [0; 64]).unwrap();
    }
    let start = Instant::now();
    let adapter = FsAdapter::open(FsOptions::new(dir)).unwrap();
    let key = object_key(files / 2);
    assert!(adapter.lookup_and_lock(vec![key.clone()]).await[0].is_ok());
    let buffer = HeapBuffer::zeroed(64);
    assert!(adapter.load(vec![LoadItem { key, buffer }]).await[0].is_ok());
    let first_hit = start.elapsed();
    let was_complete = adapter.usage().is_complete;
    while !adapter.usage().is_complete {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    println!(
        "first hit {first_hit:?} (index complete by then: {was_complete}), index complete {:?}",
        start.elapsed()
    );
    println!("{} objects", adapter.usage().objects);
    adapter.close().await;
    fs::remove_dir_all(dir).unwrap();
}

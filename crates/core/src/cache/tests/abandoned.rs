//! Writers that nobody counts on any more.

use super::*;

#[test]
fn an_abandoned_writer_keeps_its_memory_and_nobody_else_away() {
    let mut cache = cache(8);
    let (scope, hashes) = (scope("", 1), prompt(1, 1));
    let stuck = cache.reserve(&scope, &hashes, 0..1, 1_000).reserved[0].entry;
    assert_eq!(cache.reserve(&scope, &hashes, 0..1, 1_000).busy, 1);
    cache.abandon(stuck, 1_000);
    assert_eq!(cache.writer(&scope, &hashes[0], 1_000), None);
    let second = cache.reserve(&scope, &hashes, 0..1, 1_000).reserved[0];
    assert_ne!(Some(second.offset), cache.offset(stuck), "its memory is still its own");
    assert_eq!(cache.commit(second.entry), Commit::Stored);
    cache.abandon(second.entry, 1_000);
    assert_eq!(cache.commit(stuck), Commit::Duplicate, "it may still come to its end");
    assert_eq!(cache.usage().0, ALIGN);
}

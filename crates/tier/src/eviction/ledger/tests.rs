use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use larder_core::eviction::Lru;

use super::*;

pub(super) fn key(number: u32, salt: &str) -> ObjectKey {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&number.to_le_bytes());
    ObjectKey::new(hash, format!("m{}", number % 3), 1, 0, salt).unwrap()
}

fn ledger() -> Ledger {
    Ledger::new(Box::new(Lru::new()))
}

fn next(ledger: &mut Ledger, salt: Option<&str>) -> Option<ObjectKey> {
    let tenant = salt.map(|salt| ledger.tenant(salt).unwrap());
    ledger.victims(tenant, &|_| false, 1).pop().map(|victim| victim.key)
}

#[test]
fn the_coldest_leaves_first_of_all_and_of_one_tenant() {
    let mut ledger = ledger();
    for number in 0..6 {
        ledger.insert(&key(number, if number % 2 == 0 { "a" } else { "b" }), 10);
    }
    ledger.touch(&key(0, "a"));
    ledger.refresh(&key(1, "b"));
    assert_eq!(next(&mut ledger, None), Some(key(2, "a")));
    assert_eq!(next(&mut ledger, Some("b")), Some(key(3, "b")));
    ledger.remove(&key(2, "a"), Removal::Evicted);
    assert_eq!(next(&mut ledger, Some("a")), Some(key(4, "a")));
    let locked = ledger.victims(None, &|_| false, 1)[0].id;
    assert_eq!(
        ledger.victims(None, &|id| id == locked, 1)[0].key,
        key(4, "a"),
        "locked ones are passed over"
    );
}

/// Any sequence of operations leaves the same objects and bytes as a plain map. Keys repeat, salts come and
/// go.
#[test]
fn it_agrees_with_a_plain_map() {
    let mut ledger = ledger();
    let mut model: BTreeMap<ObjectKey, u64> = BTreeMap::new();
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..20_000 {
        let key = key(random(40) as u32, ["", "a", "b"][random(3) as usize]);
        if random(3) < 2 {
            let bytes = 1 + random(3);
            ledger.insert(&key, bytes);
            model.insert(key, bytes);
        } else {
            ledger.remove(&key, Removal::Dropped);
            model.remove(&key);
        }
        assert_eq!((ledger.len(), ledger.bytes()), (model.len(), model.values().sum::<u64>()));
    }
    let mut by_salt: BTreeMap<Arc<str>, Share> = BTreeMap::new();
    for (key, bytes) in &model {
        let share = by_salt.entry(Arc::clone(key.namespace.cache_salt())).or_default();
        *share = Share { objects: share.objects + 1, bytes: share.bytes + bytes };
    }
    assert_eq!(ledger.tenants().collect::<BTreeMap<_, _>>(), by_salt);
    let mut left = Vec::new();
    while let Some(victim) = ledger.victims(None, &|_| false, 1).pop() {
        ledger.remove(&victim.key, Removal::Evicted);
        left.push((victim.key, victim.bytes));
    }
    left.sort();
    assert_eq!(left, model.into_iter().collect::<Vec<_>>(), "each key comes back as it was");
    assert_eq!((ledger.bytes(), ledger.tenants().count()), (0, 0));
}

/// What an object costs besides the adapter's own index: 83 bytes with LRU, up to 112 with policies that
/// remember more.
#[test]
#[ignore = "measures the memory of its process, so it must be alone in it"]
fn a_million_objects_take_about_100_mb() {
    let resident_bytes = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    for name in ["LRU", "ARC", "S3FIFO", "IsolatedLRU"] {
        let before = resident_bytes();
        let mut ledger = Ledger::new(larder_core::eviction::by_name(name).unwrap());
        for number in 0..1_000_000 {
            ledger.insert(&key(number, "a"), 1 << 20);
        }
        let taken = resident_bytes() - before;
        println!("{name}: {taken} bytes for {} objects", ledger.len());
        assert!(taken < 120_000_000, "{name}: {taken}");
    }
}

/// More of them than a table can tell apart by chance.
#[test]
fn objects_of_one_hash_are_told_apart_by_every_field() {
    let mut ledger = ledger();
    let of =
        |model: &str, rank, group, salt: &str| ObjectKey::new([7; 32], model, rank, group, salt).unwrap();
    let keys: BTreeSet<ObjectKey> = (1..=500_u32)
        .flat_map(|n| {
            let name = n.to_string();
            [of(&name, 0, 0, ""), of("m", u64::from(n), 0, ""), of("m", 0, n, ""), of("m", 0, 0, &name)]
        })
        .collect();
    assert_eq!(keys.len(), 2_000);
    keys.iter().for_each(|key| _ = ledger.insert(key, 1));
    assert_eq!(ledger.len(), 2_000);
    let (gone, left) = keys.iter().partition::<Vec<&ObjectKey>, _>(|key| key.namespace.kv_rank() % 2 == 0);
    gone.iter().for_each(|key| ledger.remove(key, Removal::Dropped));
    let victims = ledger.victims(None, &|_| false, 2_000).into_iter().map(|victim| victim.key);
    assert_eq!(victims.collect::<BTreeSet<_>>(), left.into_iter().cloned().collect());
}

/// Notes what a policy is told.
struct Told(Arc<Mutex<Vec<Arrival>>>);

impl Policy for Told {
    fn name(&self) -> &'static str {
        "told"
    }
    fn insert(&mut self, _: EntryId, arrival: Arrival) {
        self.0.lock().unwrap().push(arrival);
    }
    fn touch(&mut self, _: EntryId) {}
    fn remove(&mut self, _: EntryId, _: Removal) {}
    fn victims(&mut self, _: &mut dyn FnMut(EntryId) -> bool, _: usize) -> Vec<EntryId> {
        Vec::new()
    }
    fn cold_to_hot(&mut self) -> Vec<EntryId> {
        Vec::new()
    }
    fn len(&self) -> usize {
        0
    }
}

#[test]
fn a_policy_knows_again_what_comes_again_and_nothing_else() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut ledger = Ledger::new(Box::new(Told(Arc::clone(&told))));
    let hashes: Vec<[u8; 32]> = (1..=50_u64)
        .map(|n| {
            let word = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            std::array::from_fn(|at| word[at % 8].rotate_left(at as u32 / 8))
        })
        .collect();
    for _ in 0..2 {
        for (hash, salt) in hashes.iter().flat_map(|hash| [(hash, ""), (hash, "a")]) {
            let key = ObjectKey::new(*hash, "m", 0, 0, salt).unwrap();
            ledger.insert(&key, 3);
            ledger.remove(&key, Removal::Evicted);
        }
    }
    let told = told.lock().unwrap();
    assert!(told.iter().all(|arrival| arrival.bytes == 3));
    let (first, second) = told.split_at(100);
    assert!(first.iter().zip(second).all(|(first, second)| first.fingerprint == second.fingerprint));
    let different: BTreeSet<u64> = first.iter().map(|arrival| arrival.fingerprint).collect();
    assert_eq!(different.len(), 100);
}

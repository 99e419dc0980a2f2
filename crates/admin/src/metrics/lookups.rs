//! What was asked for and found.

use larder_engine::{Counters, LookupCounts};

use super::text::Kind::Counter;
use super::text::{Labelled, Scrape, Table};

type Count = fn(&LookupCounts) -> u64;

const FAMILIES: &Table<LookupCounts> = &[
    ("lmcache_mp_lookups_requests_total", Counter, "Lookups.", |c| c.lookups),
    ("lmcache_mp_lookup_requested_tokens_total", Counter, "Tokens in whole chunks looked up.", |c| {
        c.requested_tokens
    }),
    ("lmcache_mp_lookup_hit_tokens_total", Counter, "Tokens found.", |c| c.hit_tokens),
    ("larder_lookup_missed_tokens_total", Counter, "Tokens looked up and not found.", |c| {
        c.requested_tokens.saturating_sub(c.hit_tokens)
    }),
    ("lmcache_mp_lookup_hit_l1_tokens_total", Counter, "Tokens found in L1.", |c| {
        c.hit_tokens - c.hit_l2_tokens
    }),
    ("lmcache_mp_lookup_hit_l1_keys_total", Counter, "Objects found in L1.", |c| c.hit_l1_keys),
    ("lmcache_mp_lookup_hit_l2_tokens_total", Counter, "Tokens found in L2.", |c| c.hit_l2_tokens),
    ("lmcache_mp_lookup_hit_l2_keys_total", Counter, "Objects found in L2.", |c| c.hit_l2_keys),
];

const EARLY_EXITS: [(&str, Count); 2] =
    [("no_gpu_context", |c| c.no_layout), ("empty_chunk_hashes", |c| c.no_chunk)];

/// Lookups by tenant and model.
pub(super) fn metrics(scrape: &mut Scrape, counters: &Counters) {
    let counts = counters.lookups();
    let by_whom: Vec<Labelled<'_, LookupCounts>> = counts
        .iter()
        .map(|(of, counts)| (vec![("cache_salt", &*of.cache_salt), ("model_name", &*of.model_name)], counts))
        .collect();
    scrape.each(FAMILIES, &by_whom);
    let help = "Lookups that ended before the index was asked.";
    let mut family = scrape.family("lmcache_mp_lookup_early_exit_requests_total", Counter, help);
    for (reason, value) in EARLY_EXITS {
        for (labels, counts) in by_whom.iter().filter(|(_, counts)| value(counts) > 0) {
            let labels = [labels.as_slice(), &[("reason", reason)]].concat();
            family.sample(&labels, value(counts));
        }
    }
}

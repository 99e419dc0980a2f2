//! `/cache/*`: what is cached, and taking it out or bringing it in by hand.

use serde::{Deserialize, Serialize};

use crate::Word;

/// Where objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Memory.
    L1,
    /// Storage.
    L2,
    /// Both.
    All,
}

impl Tier {
    /// Whether memory is meant.
    #[must_use]
    pub fn has_l1(self) -> bool {
        self != Self::L2
    }

    /// Whether storage is meant.
    #[must_use]
    pub fn has_l2(self) -> bool {
        self != Self::L1
    }

    /// The word as written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::All => "all",
        }
    }
}

/// The name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedKey {
    /// 64 hexadecimal digits.
    pub chunk_hash_hex: String,
    /// The model.
    pub model_name: String,
    /// The rank, packed as the peer packs it.
    pub kv_rank: u64,
    /// The object group.
    #[serde(default)]
    pub object_group_id: u32,
    /// The tenant; empty for none.
    #[serde(default)]
    pub cache_salt: String,
}

/// `GET /cache/objects`: one page of what a tier holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectPage {
    /// The adapter's type; none for memory.
    pub adapter: Option<Word>,
    /// Whether other servers see the same objects.
    pub shared: bool,
    /// The objects.
    pub entries: Vec<ObjectEntry>,
    /// What asks for the next page; none after the last.
    pub next_page_token: Option<String>,
}

/// One object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectEntry {
    /// Its name.
    pub key: EncodedKey,
    /// Its bytes.
    pub size_bytes: u64,
    /// Leases on it, in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases: Option<u32>,
}

/// `DELETE /cache/objects`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// Which objects.
    pub keys: Vec<EncodedKey>,
    /// Where; storage unless said.
    pub tier: Option<Tier>,
    /// Those in use, too.
    #[serde(default)]
    pub force: bool,
    /// The adapter's id or type; the one of highest priority unless said.
    pub adapter: Option<String>,
}

/// The answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deleted {
    /// Objects that were there and are gone.
    pub deleted: usize,
    /// Objects in use, which stay.
    pub skipped: usize,
    /// Whether nothing failed.
    pub ok: bool,
    /// What failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `POST /cache/clear`; without a body memory is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClearRequest {
    /// What is cleared.
    pub tier: Tier,
    /// What is in use, too.
    pub force: bool,
}

impl Default for ClearRequest {
    fn default() -> Self {
        Self { tier: Tier::L1, force: false }
    }
}

/// The answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClearAnswer {
    /// `ok`.
    pub status: Word,
    /// What was cleared.
    pub cleared: Cleared,
}

/// What was cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cleared {
    /// The tier as asked for.
    pub tier: Word,
    /// What left each adapter, where storage was meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapters: Option<Vec<ClearedAdapter>>,
}

/// What left one adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClearedAdapter {
    /// Its type.
    pub type_name: Word,
    /// Objects deleted.
    pub deleted: usize,
    /// Objects in use, which stay.
    pub skipped: usize,
    /// What failed last.
    pub error: Option<String>,
}

/// `POST /cache/prefetches`: a prompt to bring into memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefetchRequest {
    /// The model.
    pub model_name: String,
    /// Its ranks.
    pub world_size: u32,
    /// The prompt.
    pub token_ids: Vec<u32>,
    /// The tenant; empty for none.
    #[serde(default)]
    pub cache_salt: String,
    /// From where; `l2` is all there is.
    pub source_tier: Option<Tier>,
    /// To where; `l1` is all there is.
    pub target_tier: Option<Tier>,
}

/// The answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefetchBegun {
    /// What to ask after; none where there is nothing to bring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Chunks of the prompt.
    pub chunks: usize,
    /// `submitted` or `noop`.
    pub status: Word,
}

/// `GET /cache/prefetches/{request_id}`; its end is told once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prefetch {
    /// As asked after.
    pub request_id: String,
    /// `pending` or `completed`.
    pub status: Word,
    /// Objects of the prompt's longest usable prefix that are in memory now, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_keys: Option<usize>,
    /// Objects asked for, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_keys: Option<usize>,
}

//! Hints of plugins as they come over a control channel: JSON to what the engine takes.

use std::time::Duration;

use larder_core::cache::Selector;
use larder_core::hash::ChunkHash;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use larder_core::hooks::{ADMISSION, EVICTION};
use larder_engine::{HINT_CHUNKS_MAX, HINT_TTL_MAX, Hint, Operator};

/// How long a hint holds that does not say.
const TTL_DEFAULT_S: u64 = 60;
/// Characters of a model's name or a salt.
const NAME_CHARS_MAX: usize = 512;

/// One hint as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    action: Action,
    #[serde(default)]
    chunk_hashes: Vec<String>,
    model_name: Option<String>,
    cache_salt: Option<String>,
    #[serde(default = "ttl_default")]
    ttl_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Protect,
    EvictFirst,
    DeclineL2,
}

impl Action {
    fn hook(self) -> &'static str {
        match self {
            Self::Protect | Self::EvictFirst => EVICTION,
            Self::DeclineL2 => ADMISSION,
        }
    }
}

fn ttl_default() -> u64 {
    TTL_DEFAULT_S
}

/// What became of one.
#[derive(Debug, Serialize)]
struct Answer {
    taken: usize,
    refused: usize,
    ttl_s: u64,
}

/// Takes the hint of a plugin that was granted these hooks. The text says what is wrong with it.
pub(crate) fn take(
    engine: &Operator,
    plugin: &str,
    hooks: &[String],
    params: &Value,
) -> Result<Value, String> {
    let (hint, ttl) = read(hooks, params)?;
    let taken = engine.hint(plugin, hint, ttl);
    let answer = Answer { taken: taken.taken, refused: taken.refused, ttl_s: ttl.as_secs() };
    // Plain data.
    Ok(serde_json::to_value(answer).unwrap_or_default())
}

fn read(hooks: &[String], params: &Value) -> Result<(Hint, Duration), String> {
    let request: Request = serde_json::from_value(params.clone()).map_err(|error| error.to_string())?;
    let hook = request.action.hook();
    if !hooks.iter().any(|granted| granted == hook) {
        return Err(format!("`{hook}` is not among the `hooks` of the manifest"));
    }
    if request.chunk_hashes.len() > HINT_CHUNKS_MAX {
        return Err(format!("more than {HINT_CHUNKS_MAX} chunks in one hint"));
    }
    let names = [&request.model_name, &request.cache_salt];
    if names.into_iter().flatten().any(|name| name.chars().nth(NAME_CHARS_MAX).is_some()) {
        return Err(format!("a name of more than {NAME_CHARS_MAX} characters"));
    }
    let chunks = request.chunk_hashes.iter().map(|text| chunk(text)).collect::<Result<Vec<_>, _>>()?;
    let is_named = request.model_name.is_some() || request.cache_salt.is_some();
    let selector = Selector {
        model_name: request.model_name.map(Into::into),
        cache_salt: request.cache_salt.map(Into::into),
    };
    let hint = match (request.action, chunks.is_empty(), is_named) {
        (Action::Protect, false, false) => Hint::Protect(chunks),
        (Action::EvictFirst, false, false) => Hint::EvictFirst(chunks),
        (Action::EvictFirst, true, true) => Hint::EvictScopeFirst(selector),
        (Action::DeclineL2, true, true) => Hint::DeclineL2(selector),
        (Action::Protect, ..) => return Err("`protect` takes `chunk_hashes`, and nothing else".to_owned()),
        (Action::EvictFirst, ..) => {
            return Err(
                "`evict_first` takes either `chunk_hashes` or `model_name` and `cache_salt`".to_owned()
            );
        }
        (Action::DeclineL2, ..) => {
            return Err("`decline_l2` takes `model_name`, `cache_salt` or both".to_owned());
        }
    };
    Ok((hint, Duration::from_secs(request.ttl_s).min(HINT_TTL_MAX)))
}

fn chunk(text: &str) -> Result<ChunkHash, String> {
    ChunkHash::from_hex(text.strip_prefix("0x").unwrap_or(text)).ok_or_else(|| {
        format!("`{}` is no chunk hash", text.chars().take(80).collect::<String>().escape_debug())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_with(hooks: &[&str], params: Value) -> Result<(Hint, Duration), String> {
        read(&hooks.iter().map(|hook| (*hook).to_owned()).collect::<Vec<_>>(), &params)
    }

    #[test]
    fn hints_are_read_and_bounded() {
        let hash = "ab".repeat(ChunkHash::LEN);
        let (hint, ttl) =
            read_with(&["eviction"], json!({"action": "protect", "chunk_hashes": [hash], "ttl_s": u64::MAX}))
                .unwrap();
        assert_eq!((hint, ttl), (Hint::Protect(vec![ChunkHash([0xab; ChunkHash::LEN])]), HINT_TTL_MAX));
        let selector = Selector { cache_salt: Some("bulk".into()), model_name: None };
        let by_salt = |action: &str| json!({"action": action, "cache_salt": "bulk"});
        assert_eq!(
            read_with(&["eviction"], by_salt("evict_first")).unwrap().0,
            Hint::EvictScopeFirst(selector.clone())
        );
        assert_eq!(read_with(&["admission"], by_salt("decline_l2")).unwrap().0, Hint::DeclineL2(selector));
    }

    #[test]
    fn what_is_wrong_with_a_hint_is_told() {
        let many: Vec<_> = (0..=HINT_CHUNKS_MAX).map(|_| "00".repeat(ChunkHash::LEN)).collect();
        for params in [
            json!(null),
            json!({"action": "explode"}),
            json!({"action": "protect"}),
            json!({"action": "protect", "cache_salt": "x"}),
            json!({"action": "protect", "chunk_hashes": ["zz"]}),
            json!({"action": "protect", "chunk_hashes": ["é".repeat(ChunkHash::LEN)]}),
            json!({"action": "protect", "chunk_hashes": ["+1".repeat(ChunkHash::LEN)]}),
            json!({"action": "protect", "chunk_hashes": many}),
            json!({"action": "evict_first"}),
            json!({"action": "evict_first", "cache_salt": "x".repeat(NAME_CHARS_MAX + 1)}),
            json!({"action": "decline_l2", "cache_salt": "x"}),
            json!({"action": "evict_first", "cache_salt": "x", "surprise": 1}),
        ] {
            assert!(read_with(&["eviction"], params.clone()).is_err(), "{params}");
        }
    }
}

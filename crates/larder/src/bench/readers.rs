//! Trace files: one request a line, in any of the formats below.

use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use serde_json::Value;

use super::numbers::{length, whole};
use super::trace::{Prompt, Trace, TraceBuilder};

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// How a file says what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The traces published with Mooncake: JSON lines with `timestamp` in milliseconds, `input_length` and
    /// `hash_ids` of 512 tokens each.
    Mooncake,
    /// The anonymised Qwen traces of Alibaba Cloud: JSON lines with `timestamp` in seconds, `chat_id`,
    /// `input_length` and `hash_ids` of 16 tokens each.
    QwenBailian,
    /// What LMCache writes with `--lookup-hash-log-dir`: JSON lines with `timestamp` in seconds,
    /// `model_name`, `chunk_size` and `chunk_hashes`.
    LookupHashes,
    /// JSON lines with `timestamp_ms` and `blocks`, and where it matters `salt` and `block_bytes`; or the
    /// columns `timestamp_ms`, `salt` and `blocks` separated by commas, the blocks by spaces.
    Blocks,
}

impl Format {
    pub(super) const NAMES: [&'static str; 4] = ["mooncake", "qwen-bailian", "lookup-hashes", "blocks"];

    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "mooncake" => Self::Mooncake,
            "qwen-bailian" => Self::QwenBailian,
            "lookup-hashes" => Self::LookupHashes,
            "blocks" => Self::Blocks,
            _ => return None,
        })
    }

    /// The format of a file that begins with this line.
    fn of(line: &str) -> Option<Self> {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            return line.starts_with("timestamp_ms").then_some(Self::Blocks);
        };
        let has = |field| line.get(field).is_some();
        match () {
            () if has("chunk_hashes") => Some(Self::LookupHashes),
            () if has("hash_ids") && has("chat_id") => Some(Self::QwenBailian),
            () if has("hash_ids") => Some(Self::Mooncake),
            () if has("blocks") => Some(Self::Blocks),
            () => None,
        }
    }

    /// Tokens per block where the format or `line` says.
    fn block_tokens(self, line: &str) -> u32 {
        match self {
            Self::Mooncake => 512,
            Self::QwenBailian => 16,
            Self::Blocks => 256,
            Self::LookupHashes => {
                let line: Value = serde_json::from_str(line).unwrap_or_default();
                line["chunk_size"].as_u64().and_then(|tokens| u32::try_from(tokens).ok()).unwrap_or(256)
            }
        }
    }
}

/// Why a file can't be replayed.
#[derive(Debug)]
pub(super) struct TraceError {
    place: String,
    reason: String,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trace `{}`: {}", self.place, self.reason)
    }
}

/// Reads a file; without a format, in the one its first line shows. `block_tokens` replaces what the format
/// says.
///
/// # Errors
/// The file can't be read, its format is not known, or a line does not have it.
pub(super) fn read(
    path: &Path,
    format: Option<Format>,
    block_tokens: Option<u32>,
    chunk_tokens: u32,
) -> Result<Trace, TraceError> {
    let failed = |line: usize, reason: String| {
        let line = if line > 0 { format!(":{line}") } else { String::new() };
        TraceError { place: format!("{}{line}", path.display()), reason }
    };
    let file = File::open(path).map_err(|error| failed(0, error.to_string()))?;
    let mut lines = Lines { source: BufReader::new(file), number: 0 };
    let Some(first) = lines.next().map_err(|reason| failed(1, reason))? else {
        return Err(failed(0, "is empty".to_owned()));
    };
    let format = format.or_else(|| Format::of(&first)).ok_or_else(|| {
        failed(1, format!("is in no known format\n  hint: one of {}", Format::NAMES.join(", ")))
    })?;
    let block_tokens = block_tokens.unwrap_or_else(|| format.block_tokens(&first)).max(1);
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut builder = TraceBuilder::new(&name, block_tokens, chunk_tokens);
    let mut next = Some(first);
    while let Some(line) = next {
        let heading = lines.number == 1 && line.starts_with("timestamp_ms");
        if !line.trim().is_empty() && !heading {
            add(&mut builder, format, block_tokens, &line).map_err(|reason| failed(lines.number, reason))?;
        }
        next = lines.next().map_err(|reason| failed(lines.number, reason))?;
    }
    Ok(builder.build())
}

struct Lines {
    source: BufReader<File>,
    number: usize,
}

impl Lines {
    fn next(&mut self) -> Result<Option<String>, String> {
        let mut line = String::new();
        let read = (&mut self.source).take(LINE_BYTES_MAX).read_line(&mut line);
        self.number += 1;
        match read.map_err(|error| error.to_string())? as u64 {
            0 => Ok(None),
            LINE_BYTES_MAX => Err(format!("is longer than {LINE_BYTES_MAX} bytes")),
            _ => Ok(Some(line)),
        }
    }
}

fn add(builder: &mut TraceBuilder, format: Format, block_tokens: u32, line: &str) -> Result<(), String> {
    let json: Option<Value> = serde_json::from_str(line).ok();
    let Some(json) = json else {
        if format != Format::Blocks {
            return Err("is no JSON".to_owned());
        }
        builder.add(&columns(line)?);
        return Ok(());
    };
    let (time, blocks, ms_per_unit) = match format {
        Format::Mooncake => ("timestamp", "hash_ids", 1.0),
        Format::QwenBailian => ("timestamp", "hash_ids", 1000.0),
        Format::LookupHashes => ("timestamp", "chunk_hashes", 1000.0),
        Format::Blocks => ("timestamp_ms", "blocks", 1.0),
    };
    let time = json[time].as_f64().ok_or_else(|| format!("has no number `{time}`"))? * ms_per_unit;
    let list = json[blocks].as_array().ok_or_else(|| format!("has no list `{blocks}`"))?;
    let mut blocks =
        list.iter().map(block).collect::<Option<Vec<u64>>>().ok_or_else(|| {
            format!("has something in `{blocks}` that is neither a whole number nor a text")
        })?;
    if let Some(tokens) = json["input_length"].as_u64() {
        // The last block of a prompt may be a partial one, which no cache stores.
        blocks.truncate(length(tokens / u64::from(block_tokens)));
    }
    let text = |field: &str| json[field].as_str().unwrap_or_default();
    let owner = format!("{}\n{}{}", text("model_name"), text("salt"), text("cache_salt"));
    let chunk_bytes = json["block_bytes"].as_u64().unwrap_or(1);
    builder.add(&Prompt { time_ms: whole(time), owner: &owner, blocks, chunk_bytes });
    Ok(())
}

fn columns(line: &str) -> Result<Prompt<'_>, String> {
    let mut columns = line.trim_end().split(',');
    let (Some(time), Some(owner), Some(blocks), None) =
        (columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return Err("is not `timestamp_ms,salt,blocks`".to_owned());
    };
    let time_ms =
        time.trim().parse().map_err(|_| format!("has the time `{time}`, not whole milliseconds"))?;
    Ok(Prompt { time_ms, owner, blocks: blocks.split_whitespace().map(hashed).collect(), chunk_bytes: 1 })
}

fn block(block: &Value) -> Option<u64> {
    match block {
        Value::Number(number) => number.as_u64().or_else(|| number.as_i64().map(i64::cast_unsigned)),
        Value::String(text) => Some(hashed(text)),
        _ => None,
    }
}

fn hashed(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read_text(text: &str) -> Result<Trace, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read(file.path(), None, None, 256)
            .map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
    }

    fn shape(trace: &Trace) -> Vec<(u64, Vec<u32>)> {
        trace.requests.iter().map(|request| (request.time_ms, request.chunks.clone())).collect()
    }

    #[test]
    fn mooncake_without_its_partial_blocks() {
        let trace = read_text(
            "{\"timestamp\": 27, \"input_length\": 1100, \"output_length\": 52, \"hash_ids\": [46, 47, 48]}\n\
             {\"timestamp\": 30, \"input_length\": 1024, \"output_length\": 26, \"hash_ids\": [46, 2353]}\n",
        )
        .unwrap();
        assert_eq!((trace.chunk_tokens, shape(&trace)), (512, vec![(27, vec![0, 1]), (30, vec![0, 2])]));
    }

    #[test]
    fn qwen_bailian_in_chunks_of_sixteen_blocks() {
        let line = |chat: u64, time: f64, blocks: Vec<u64>| {
            let length = blocks.len() * 16;
            format!(
                "{{\"chat_id\": {chat}, \"parent_chat_id\": -1, \"timestamp\": {time}, \"input_length\": {length}, \
                 \"output_length\": 1, \"type\": \"text\", \"turn\": 1, \"hash_ids\": {blocks:?}}}\n"
            )
        };
        let text = line(1, 61.114, (0..40).collect()) + &line(2, 2.5, (0..33).map(|at| at % 32).collect());
        let trace = read_text(&text).unwrap();
        assert_eq!(
            (trace.chunk_tokens, shape(&trace)),
            (256, vec![(2500, vec![0, 1]), (61_114, vec![0, 1])])
        );
    }

    #[test]
    fn lookup_hashes_as_the_reference_server_logs_them() {
        let line = |model: &str| {
            format!(
                "{{\"timestamp\": 17.5, \"request_id\": \"r\", \"model_name\": \"{model}\", \"chunk_size\": 16, \
                 \"seq_len\": 40, \"dtypes\": [\"uint8\"], \"shapes\": [[1]], \"chunk_hashes\": [\"0xab\", \"0xcd\"]}}\n"
            )
        };
        let mut trace = read_text(&(line("m") + &line("n") + &line("m"))).unwrap();
        assert_eq!(trace.chunk_tokens, 256, "sixteen of them make a chunk unless asked otherwise");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all((line("m") + &line("n") + &line("m")).as_bytes()).unwrap();
        trace = read(file.path(), Some(Format::LookupHashes), None, 16).unwrap();
        let chunks: Vec<_> = trace.requests.iter().map(|request| request.chunks.clone()).collect();
        assert_eq!(chunks, [[0, 1], [2, 3], [0, 1]]);
    }

    #[test]
    fn blocks_as_lines_of_json_or_as_columns() {
        let json = "{\"timestamp_ms\": 1, \"blocks\": [1, 2]}\n\n{\"timestamp_ms\": 2, \"salt\": \"a\", \"blocks\": [\"1\"], \"block_bytes\": 7}\n";
        let trace = read_text(json).unwrap();
        assert_eq!((shape(&trace), trace.footprint_bytes()), (vec![(1, vec![0, 1]), (2, vec![2])], 9));
        let columns = "timestamp_ms,salt,blocks\n5,,a b c\n7,,a b\n6,s,a b\n";
        let trace = read_text(columns).unwrap();
        assert_eq!(shape(&trace), [(5, vec![0, 1, 2]), (6, vec![3, 4]), (7, vec![0, 1])]);
    }

    #[test]
    fn a_line_that_does_not_fit_is_named() {
        let cases = [
            ("", "trace `FILE`: is empty"),
            (
                "hello\n",
                "trace `FILE:1`: is in no known format\n  hint: one of mooncake, qwen-bailian, lookup-hashes, blocks",
            ),
            ("{\"timestamp\": 1, \"hash_ids\": [1]}\nrest\n", "trace `FILE:2`: is no JSON"),
            (
                "{\"timestamp\": 1, \"hash_ids\": [1.5]}\n",
                "trace `FILE:1`: has something in `hash_ids` that is neither a whole number nor a text",
            ),
            ("{\"time\": 1, \"hash_ids\": [1]}\n", "trace `FILE:1`: has no number `timestamp`"),
            ("timestamp_ms,salt,blocks\n1,2\n", "trace `FILE:2`: is not `timestamp_ms,salt,blocks`"),
            (
                "timestamp_ms,salt,blocks\nnow,,2\n",
                "trace `FILE:2`: has the time `now`, not whole milliseconds",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read_text(text).unwrap_err(), expected);
        }
    }
}

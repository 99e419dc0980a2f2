//! `larder bench policy`: which eviction policy suits a workload.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use larder_core::eviction::{self, PolicyKind};
use serde_json::json;

use super::background::Background;
use super::numbers::whole;
use super::offline::offline;
use super::peer::peer;
use super::readers::{self, Format};
use super::replay::replay;
use super::score::Score;
use super::synthetic::Workload;
use super::trace::Trace;
use crate::exit;

/// Rows that are no policies of ours.
const PEER_LRU: &str = "peer-LRU";
const PEER_ARC: &str = "peer-ARC";
const OFFLINE: &str = "offline";

/// The peer's defaults (`spec/cache-semantics.md` 10).
const WATERMARK: f64 = 0.8;
const RATIO: f64 = 0.2;

/// The command line.
pub(super) fn command() -> Command {
    let policies = eviction::NAMES.iter().copied().chain([PEER_LRU, PEER_ARC, OFFLINE]);
    Command::new("policy")
        .about("Replay traces of requests under each eviction policy and compare what is hit")
        .after_help(
            "Rows: `offline` knows the future and is the best that any policy could do; `peer-LRU` and `peer-ARC` follow the \
             reference server's rules: a fifth of all objects leaves when the pool is 80 % full, once a second. The others evict what stores need, \
             and in the background too if asked to. Work is prefill computation: later chunks of a prompt attend to more and cost more.",
        )
        .arg(
            many("trace", "FILE", "Trace to replay, one request a line")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            one("format", "NAME", "Format of the traces [default: as the first line shows]")
                .value_parser(PossibleValuesParser::new(Format::NAMES)),
        )
        .arg(
            many("workload", "NAME", "Workload to generate [default: all, if there is no trace]")
                .value_parser(PossibleValuesParser::new(Workload::NAMES)),
        )
        .arg(
            one("requests", "COUNT", "Requests of a generated workload [default: 20000]")
                .value_parser(value_parser!(u32).range(1..=10_000_000)),
        )
        .arg(one("seed", "NUMBER", "Seed of a generated workload [default: 1]").value_parser(value_parser!(u64)))
        .arg(
            many("capacity", "SIZE", "Room in the cache: chunks, or a share of all distinct ones such as 25% [default: 25%]")
                .value_parser(capacity),
        )
        .arg(
            many("policies", "NAMES", "Rows to compute [default: all that differ without quotas]")
                .value_delimiter(',')
                .value_parser(PossibleValuesParser::new(policies)),
        )
        .arg(
            one("block-tokens", "COUNT", "Tokens per block of the traces [default: the format's]")
                .value_parser(value_parser!(u32).range(1..)),
        )
        .arg(
            one("chunk-size", "TOKENS", "Tokens per chunk; smaller blocks are joined [default: 256]")
                .value_parser(value_parser!(u32).range(1..)),
        )
        .arg(
            one("eviction-trigger-watermark", "SHARE", "Evict in the background from here on, as a server with this flag does [default: never]")
                .value_parser(share),
        )
        .arg(
            one("eviction-ratio", "SHARE", "Share of the objects that leave in one pass [default: 0.2]")
                .value_parser(share),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON, one line a row"))
}

fn one(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn many(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    one(name, value, help).action(ArgAction::Append)
}

/// Room in the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Capacity {
    /// Of all distinct chunks of a trace.
    Share(f64),
    /// In bytes, or in chunks where a trace has chunks of one byte.
    Bytes(u64),
}

fn capacity(text: &str) -> Result<Capacity, String> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent
            .parse()
            .ok()
            .filter(|percent| *percent > 0.0)
            .map(|percent: f64| Capacity::Share(percent / 100.0)),
        None => text.parse().ok().map(Capacity::Bytes),
    };
    parsed.ok_or_else(|| "neither a whole number nor a percentage".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "not a number from 0 to 1".to_owned())
}

impl Capacity {
    fn bytes(self, trace: &Trace) -> u64 {
        match self {
            Self::Share(share) => whole(trace.footprint_bytes() as f64 * share),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Prints a table for each trace and capacity.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let traces = match traces(matches) {
        Ok(traces) => traces,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    let capacities: Vec<Capacity> = matches
        .get_many("capacity")
        .map_or_else(|| vec![Capacity::Share(0.25)], |given| given.copied().collect());
    let rows = rows(matches);
    let background = background(matches);
    for trace in &traces {
        for capacity in &capacities {
            let bytes = capacity.bytes(trace);
            let scores = rows.iter().map(|row| (row.as_str(), score(trace, bytes, row, background)));
            let scores: Vec<(&str, Score)> = scores.collect();
            let text = if matches.get_flag("json") {
                lines(trace, bytes, &scores)
            } else {
                table(trace, bytes, &scores)
            };
            if io::stdout().write_all(text.as_bytes()).is_err() {
                return ExitCode::from(exit::FAILED);
            }
        }
    }
    ExitCode::SUCCESS
}

fn traces(matches: &ArgMatches) -> Result<Vec<Trace>, readers::TraceError> {
    let format = matches.get_one::<String>("format").and_then(|name| Format::by_name(name));
    let number = |name: &str| matches.get_one::<u32>(name).copied();
    let chunk_tokens = number("chunk-size").unwrap_or(256);
    let mut traces = Vec::new();
    for path in matches.get_many::<PathBuf>("trace").into_iter().flatten() {
        traces.push(readers::read(path, format, number("block-tokens"), chunk_tokens)?);
    }
    let named: Vec<String> = match matches.get_many::<String>("workload") {
        Some(named) => named.cloned().collect(),
        None if traces.is_empty() => Workload::NAMES.map(str::to_owned).to_vec(),
        None => Vec::new(),
    };
    let requests = number("requests").unwrap_or(20_000) as usize;
    let seed = matches.get_one::<u64>("seed").copied().unwrap_or(1);
    let workloads = named.iter().filter_map(|name| Workload::by_name(name));
    traces.extend(workloads.map(|workload| workload.trace(requests, seed)));
    Ok(traces)
}

fn rows(matches: &ArgMatches) -> Vec<String> {
    if let Some(named) = matches.get_many::<String>("policies") {
        return named.cloned().collect();
    }
    let ours = eviction::KINDS.iter().filter(|kind| kind.makes_room()).map(PolicyKind::as_str);
    ours.chain([PEER_LRU, PEER_ARC, OFFLINE]).map(str::to_owned).collect()
}

fn background(matches: &ArgMatches) -> Option<Background> {
    let share = |name: &str| matches.get_one::<f64>(name).copied();
    Some(Background::new(share("eviction-trigger-watermark")?, share("eviction-ratio").unwrap_or(RATIO)))
}

fn score(trace: &Trace, capacity_bytes: u64, row: &str, background: Option<Background>) -> Score {
    let policy = |name| eviction::by_name(name).unwrap_or_else(|| Box::new(eviction::Noop::new()));
    match row {
        OFFLINE => offline(trace, capacity_bytes),
        PEER_LRU => peer(trace, capacity_bytes, policy("LRU"), Background::new(WATERMARK, RATIO)),
        PEER_ARC => peer(trace, capacity_bytes, policy("ARC"), Background::new(WATERMARK, RATIO)),
        _ => replay(trace, capacity_bytes, policy(row), background),
    }
}

fn table(trace: &Trace, capacity_bytes: u64, scores: &[(&str, Score)]) -> String {
    let mut text = format!(
        "{}: {} requests, {} distinct chunks of {} tokens, room for {:.1} % of their bytes\n",
        trace.name,
        trace.requests.len(),
        trace.distinct(),
        trace.chunk_tokens,
        100.0 * capacity_bytes as f64 / trace.footprint_bytes().max(1) as f64,
    );
    let best = scores.iter().find(|(row, _)| *row == OFFLINE).map(|(_, score)| score.hit_ratio());
    text += &format!(
        "{:<12} {:>8} {:>10} {:>8} {:>8} {:>12} {:>10} {:>10}\n",
        "policy", "hits", "of offline", "bytes", "work", "requests", "evicted", "refused"
    );
    for (row, score) in scores {
        let of_best =
            best.map_or_else(String::new, |best| format!("{:.1} %", 100.0 * score.hit_ratio() / best));
        text += &format!(
            "{row:<12} {:>6.2} % {of_best:>10} {:>6.2} % {:>6.2} % {:>10.2} % {:>10} {:>10}\n",
            100.0 * score.hit_ratio(),
            100.0 * score.byte_hit_ratio(),
            100.0 * score.work_saved(),
            100.0 * score.request_hit_ratio(),
            score.evicted,
            score.refused,
        );
    }
    text + "\n"
}

fn lines(trace: &Trace, capacity_bytes: u64, scores: &[(&str, Score)]) -> String {
    let line = |(row, score): &(&str, Score)| {
        let line = json!({
            "trace": trace.name,
            "capacity_bytes": capacity_bytes,
            "footprint_bytes": trace.footprint_bytes(),
            "policy": row,
            "requests": score.requests,
            "chunks": score.chunks,
            "hit_ratio": score.hit_ratio(),
            "byte_hit_ratio": score.byte_hit_ratio(),
            "tokens_saved": score.chunks_hit * u64::from(trace.chunk_tokens),
            "work_saved": score.work_saved(),
            "request_hit_ratio": score.request_hit_ratio(),
            "evicted": score.evicted,
            "refused": score.refused,
        });
        format!("{line}\n")
    };
    scores.iter().map(line).collect()
}

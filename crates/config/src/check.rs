//! Rules between flags and about what this build can do. Every rule is checked, none stops the others.

use larder_core::eviction;
use larder_core::units::gib_to_bytes;

use super::flag::{Group, Support};
use super::mistake::Mistake;
use super::notice::Notice;
use super::settings::{Settings, default_value};
use super::source::Source;
use super::value::quoted;
use super::{flags, plugins, quotas};
use larder_telemetry::redaction::{REDACTED, is_redacted};

pub(crate) fn check(settings: &Settings, mistakes: &mut Vec<Mistake>, notices: &mut Vec<Notice>) {
    check_required(settings, mistakes);
    check_support(settings, mistakes, notices);
    check_redacted(settings, mistakes);
    check_memory(settings, mistakes);
    check_times(settings, mistakes);
    check_ports(settings, mistakes, notices);
    check_observability(settings, mistakes);
    check_plugins(settings, mistakes);
    if let Err(problem) = quotas::quotas(settings) {
        mistakes.push(at(settings, "quota", problem).accepted("`SALT=GB`, such as `alice=1.5`"));
    }
}

fn at(settings: &Settings, name: &str, problem: impl Into<String>) -> Mistake {
    Mistake::new(name.replace('-', "_"), settings.get(name).source.clone(), problem)
}

/// `config show` leaves credentials out; what it printed would log in with their replacement.
fn check_redacted(settings: &Settings, mistakes: &mut Vec<Mistake>) {
    for flag in flags::all() {
        if is_redacted(&settings.get(flag.name).value.to_json()) {
            mistakes.push(
                at(settings, flag.name, format!("`{REDACTED}` stands for a credential that was left out"))
                    .hint("write the credential itself; `larder config show --show-secrets` prints it"),
            );
        }
    }
}

/// The peer has no default for these two either.
fn check_required(settings: &Settings, mistakes: &mut Vec<Mistake>) {
    let l1_elsewhere = settings.is_given("l1-manager");
    if !settings.is_given("l1-size-gb") && !l1_elsewhere {
        mistakes.push(
            at(settings, "l1-size-gb", "the size of the L1 pool is missing")
                .accepted("GiB above 0")
                .hint("add `--l1-size-gb 10` for a pool of 10 GiB"),
        );
    }
    if !settings.is_given("eviction-policy") && !l1_elsewhere {
        mistakes.push(
            at(settings, "eviction-policy", "the eviction policy is missing")
                .accepted(format!("one of `{}`", eviction::NAMES.join("`, `")))
                .hint("add `--eviction-policy LRU`"),
        );
    }
}

fn check_support(settings: &Settings, mistakes: &mut Vec<Mistake>, notices: &mut Vec<Notice>) {
    for flag in flags::all() {
        let setting = settings.get(flag.name);
        if setting.source == Source::Default || setting.value == default_value(flag) {
            continue;
        }
        match flag.support {
            Support::Missing { feature, hint } if !setting.value.is_off() => mistakes.push(
                at(settings, flag.name, format!("needs {feature}, which is not part of this build"))
                    .hint(hint),
            ),
            Support::NoEffect(why) if flag.group != Group::Framework => {
                let text = format!("--{} ({}) has no effect: {why}", flag.name, setting.source);
                notices.push(Notice::new(text));
            }
            _ => {}
        }
    }
}

fn check_memory(settings: &Settings, mistakes: &mut Vec<Mistake>) {
    let align_bytes = settings.narrow::<u64>("l1-align-bytes");
    if !align_bytes.is_power_of_two() {
        mistakes.push(
            at(settings, "l1-align-bytes", format!("`{align_bytes}` is not a power of two"))
                .accepted("a power of two, such as 4096"),
        );
    }
    if let Some(gib) = settings.float("l1-size-gb") {
        let size_bytes = gib_to_bytes(gib);
        if size_bytes < align_bytes {
            mistakes.push(at(
                settings,
                "l1-size-gb",
                format!("`{gib}` is a pool of {size_bytes} bytes, less than one slot of {align_bytes} bytes"),
            ));
        }
    }
    let named = settings.text("shm-name").is_some_and(|name| !name.is_empty());
    if named && settings.bool("l1-use-hugepages") {
        mistakes.push(
            at(settings, "shm-name", "shared memory cannot be taken from reserved hugepages")
                .hint("leave out either --shm-name or --l1-use-hugepages"),
        );
    }
    if settings.bool("l1-warm-restart") && !named {
        mistakes.push(
            at(settings, "l1-warm-restart", "the next server finds the pool by its name, which is not given")
                .hint("add `--shm-name NAME`"),
        );
    }
    if settings.bool("l1-warm-restart") && settings.text("checksum") == Some("off") {
        mistakes.push(
            at(settings, "l1-warm-restart", "only objects with a checksum are taken over")
                .hint("leave out either --l1-warm-restart or `--checksum off`"),
        );
    }
    if let Some(name) = settings.text("shm-name") {
        check_segment_name(settings, name, mistakes);
    }
}

/// Longest segment name: a file name of 255 bytes less the peer's prefix.
const SEGMENT_NAME_BYTES_MAX: usize = 255 - "lmcache_l1_pool_".len();

/// The peer strips leading slashes and hands the rest to the kernel.
fn check_segment_name(settings: &Settings, name: &str, mistakes: &mut Vec<Mistake>) {
    let bare = name.trim_start_matches('/');
    let sound = !bare.contains(['/', '\0'])
        && bare.len() <= SEGMENT_NAME_BYTES_MAX
        && (name.is_empty() || !bare.is_empty());
    if !sound {
        mistakes.push(
            at(settings, "shm-name", format!("`{}` cannot name a shared-memory segment", quoted(name)))
                .accepted(format!("at most {SEGMENT_NAME_BYTES_MAX} bytes without `/`, or nothing")),
        );
    }
}

fn check_times(settings: &Settings, mistakes: &mut Vec<Mistake>) {
    let reap = settings.number("worker-reap-timeout-seconds");
    let grace = settings.number("worker-registration-grace-seconds");
    if grace < reap {
        mistakes.push(
            at(
                settings,
                "worker-registration-grace-seconds",
                format!("`{grace}` is shorter than --worker-reap-timeout-seconds, which is {reap}"),
            )
            .accepted(format!("a finite number of at least {reap}")),
        );
    }
}

fn check_ports(settings: &Settings, mistakes: &mut Vec<Mistake>, notices: &mut Vec<Notice>) {
    let (host, http_host) = (settings.string("host"), settings.string("http-host"));
    let (port, http_port) = (settings.int("port"), settings.int("http-port"));
    if port == http_port && port != Some(0) && overlap(&host, &http_host) {
        mistakes.push(
            at(settings, "http-port", "engines and the admin HTTP server cannot share one port")
                .hint("give --port and --http-port different numbers"),
        );
    }
    for name in ["host", "http-host"] {
        let host = settings.string(name);
        if host.contains("://") || host.contains(char::is_whitespace) {
            mistakes.push(
                at(settings, name, format!("`{}` is not an address", quoted(&host)))
                    .accepted("an IP address or a host name, without scheme and port"),
            );
        }
    }
    if !is_loopback(&host) {
        let text = format!(
            "engines are served on `{}` without authentication: whoever reaches the port can read, write and clear \
             the cache",
            quoted(&host)
        );
        notices.push(Notice::new(text).hint(
            "use --host 127.0.0.1 for engines of this machine, else keep the port in a network of engines only",
        ));
    }
    if !is_loopback(&http_host) {
        let text = format!(
            "the admin HTTP server on `{}` has no authentication, and only callers on this machine may change anything",
            quoted(&http_host)
        );
        notices.push(Notice::new(text).hint("keep it on a trusted network"));
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn overlap(left: &str, right: &str) -> bool {
    let everywhere = |host: &str| matches!(host, "0.0.0.0" | "::" | "*");
    left == right || everywhere(left) || everywhere(right) || (is_loopback(left) && is_loopback(right))
}

fn check_observability(settings: &Settings, mistakes: &mut Vec<Mistake>) {
    if settings.bool("enable-extra-logging") && settings.bool("disable-observability") {
        mistakes.push(
            at(settings, "enable-extra-logging", "extra logging needs observability")
                .hint("leave out either --enable-extra-logging or --disable-observability"),
        );
    }
}

fn check_plugins(settings: &Settings, mistakes: &mut Vec<Mistake>) {
    let name = "runtime-plugin-defaults";
    if let Err(error) = plugins::defaults(&settings.json(name)) {
        let mistake = at(settings, name, error.to_string());
        mistakes.push(Mistake { hint: error.hint().map(str::to_owned), ..mistake });
    }
    let name = "runtime-plugin-interpreters";
    if plugins::interpreters(&settings.json(name)).is_none() {
        mistakes.push(
            at(settings, name, "is no table of programs")
                .accepted("a JSON object of extensions and programs, such as `{\"rb\": [\"ruby\"]}`"),
        );
    }
}

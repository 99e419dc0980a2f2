//! The environment layer: our variable of each flag, then the peer's names for it.

use std::collections::BTreeMap;

use super::flag::Flag;
use super::flags;
use super::mistake::Mistake;
use super::notice::Notice;
use super::settings::Settings;
use super::source::Source;
use super::spelling::meant;
use super::value::{self, quoted};

/// The environment a configuration is read from: names and values, in no order.
pub type Environment = BTreeMap<String, String>;

/// The environment of this process; names and values that are not UTF-8 are left out.
#[must_use]
pub fn process_environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads the environment layer: `LARDER_<FLAG>` first, then the peer's names.
pub(crate) fn read(
    settings: &mut Settings,
    environment: &Environment,
    mistakes: &mut Vec<Mistake>,
    notices: &mut Vec<Notice>,
) {
    for flag in flags::all() {
        let ours = flag.variable();
        let names = std::iter::once(ours.as_str()).chain(flag.peer_environment.iter().copied());
        for name in names {
            let Some(text) = environment.get(name) else { continue };
            if is_service_link(text) {
                let text = format!("{name} is a Kubernetes service link, not a setting, and is ignored");
                notices.push(Notice::new(text));
                continue;
            }
            settings.put(flag, Source::Environment(name.to_owned()), value::from_text(flag, text), mistakes);
            break;
        }
    }
    for name in environment.keys().filter(|name| is_unknown_variable(name)) {
        let text = format!("environment variable `{}` is not a setting and is ignored", quoted(name));
        let hint =
            meant(name, flags::all().map(Flag::variable)).map(|known| format!("did you mean `{known}`?"));
        notices.push(Notice { text, hint });
    }
}

/// A Kubernetes service called `larder` puts variables such as `LARDER_PORT=tcp://10.0.0.1:5555` into every
/// pod.
fn is_service_link(text: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
}

/// For `larder plugin` and its like: where a server is.
const CLIENT_VARIABLE: &str = "LARDER_URL";

fn is_unknown_variable(name: &str) -> bool {
    name.starts_with("LARDER_")
        && name != CLIENT_VARIABLE
        && !name.contains("_SERVICE_")
        && !name.contains("_PORT_")
        && !flags::all().any(|flag| flag.variable() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Settings, Vec<Mistake>, Vec<Notice>) {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut settings = Settings::defaults();
        let (mut mistakes, mut notices) = (Vec::new(), Vec::new());
        super::read(&mut settings, &environment, &mut mistakes, &mut notices);
        (settings, mistakes, notices)
    }

    #[test]
    fn our_variable_goes_before_the_peers() {
        let (settings, ..) = read(&[("LMCACHE_LOG_LEVEL", "DEBUG"), ("LARDER_LOG_LEVEL", "error")]);
        assert_eq!(settings.text("log-level"), Some("error"));
        let (settings, ..) = read(&[("LMCACHE_LOG_LEVEL", "DEBUG")]);
        assert_eq!(settings.get("log-level").source, Source::Environment("LMCACHE_LOG_LEVEL".into()));
        assert_eq!(settings.text("log-level"), Some("debug"));
    }

    #[test]
    fn a_service_link_is_not_a_port() {
        let (settings, mistakes, notices) =
            read(&[("LARDER_PORT", "tcp://10.0.0.1:5555"), ("LARDER_SERVICE_HOST", "10.0.0.1")]);
        assert_eq!(settings.int("port"), Some(5555));
        assert!(mistakes.is_empty());
        assert_eq!(notices.len(), 1);
    }

    #[test]
    fn an_unknown_variable_is_mentioned() {
        let (_, _, notices) = read(&[("LARDER_CHUNKSIZE", "16")]);
        assert!(notices[0].text.contains("LARDER_CHUNKSIZE"));
        let hint = |name: &str| read(&[(name, "4")]).2.remove(0).hint;
        assert_eq!(hint("LARDER_CHUNKSIZE").unwrap(), "did you mean `LARDER_CHUNK_SIZE`?");
        assert_eq!(hint("LARDER_L1_SIZE").unwrap(), "did you mean `LARDER_L1_SIZE_GB`?");
        assert_eq!(hint("LARDER_NONSENSE"), None);
    }

    #[test]
    fn the_variable_of_commands_is_not_complained_of() {
        assert!(read(&[("LARDER_URL", "http://127.0.0.1:8080")]).2.is_empty());
    }

    #[test]
    fn a_bad_value_is_reported_and_replaced_by_the_default() {
        let (settings, mistakes, _) = read(&[("LARDER_CHUNK_SIZE", "0")]);
        assert_eq!(settings.int("chunk-size"), Some(256));
        assert!(settings.is_given("chunk-size"));
        assert_eq!(
            mistakes[0].to_string(),
            "chunk_size (environment LARDER_CHUNK_SIZE): `0` is out of range; accepted: a whole number from 1 to 65536"
        );
    }
}

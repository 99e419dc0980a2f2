//! The command-line layer: clap arguments made from the flag table, and their reading.
//!
//! Spellings follow the peer's parser: unambiguous abbreviations, `--flag=value`, `--x`/`--no-x` with the
//! last one winning, lists of zero or more words, repeated single values replaced by the last.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::flag::{Flag, Kind, Support};
use super::flags;
use super::mistake::Mistake;
use super::settings::Settings;
use super::source::Source;
use super::value::{self, Value};

/// Adds every server flag to `command`; its help lists those that do something.
#[must_use]
pub fn with_server_flags(command: Command) -> Command {
    let mut command = command.infer_long_args(true).args_override_self(true);
    for flag in flags::all() {
        command = command.arg(argument(flag));
        if matches!(flag.kind, Kind::Pair) {
            command = command.arg(negative_argument(flag));
        }
    }
    command
}

/// A command made by [`with_server_flags`] whose help lists what `is_listed` says of the server's flags.
pub fn list_server_flags(command: Command, is_listed: fn(&Flag) -> bool) -> Command {
    command.mut_args(|arg| match flags::find(arg.get_id().as_str()) {
        Some(flag) => arg.hide(!is_listed(flag)),
        None => arg,
    })
}

/// The server's flags that a word, such as `--l1`, may be short for.
#[must_use]
pub fn flags_beginning_with(word: &str) -> Vec<String> {
    let spellings = flags::all().filter(|flag| !flag.hidden).flat_map(|flag| {
        let negative = matches!(flag.kind, Kind::Pair).then(|| flag.negative());
        std::iter::once(flag.name.to_owned()).chain(negative)
    });
    spellings.map(|name| format!("--{name}")).filter(|name| name.starts_with(word)).collect()
}

fn argument(flag: &'static Flag) -> Arg {
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .help(help(flag))
        .help_heading(flag.group.heading())
        .hide(flag.hidden || !matches!(flag.support, Support::Full));
    let arg = if flag.name == "quiet" { arg.short('q') } else { arg };
    match flag.kind {
        Kind::Switch => arg.action(ArgAction::SetTrue),
        Kind::Pair => arg.action(ArgAction::SetTrue).overrides_with(flag.negative()),
        Kind::List => arg.action(ArgAction::Set).num_args(0..).value_name("WORD"),
        Kind::Objects => arg.action(ArgAction::Append).value_name("JSON"),
        kind => arg.action(ArgAction::Set).value_name(value_name(kind)).allow_negative_numbers(true),
    }
}

fn negative_argument(flag: &'static Flag) -> Arg {
    Arg::new(flag.negative())
        .long(flag.negative())
        .hide(true)
        .action(ArgAction::SetTrue)
        .overrides_with(flag.name)
        .help_heading(flag.group.heading())
}

fn value_name(kind: Kind) -> String {
    match kind {
        Kind::Int { .. } => "INT".into(),
        Kind::Float(_) => "NUMBER".into(),
        Kind::Json => "JSON".into(),
        Kind::Choice(choices) => choices.iter().map(|choice| choice.word).collect::<Vec<_>>().join("|"),
        _ => "TEXT".into(),
    }
}

fn help(flag: &'static Flag) -> String {
    let mut text = flag.help.to_owned();
    match flag.support {
        Support::Full => {}
        Support::NoEffect(why) => text.push_str(&format!(" No effect: {why}.")),
        Support::Missing { .. } => text.push_str(" Not available yet."),
    }
    let given = match (flag.kind, flag.default, flag.automatic) {
        (Kind::Switch, ..) => None,
        (Kind::Pair, Some("true"), _) => Some(format!("on, --{} switches it off", flag.negative())),
        (Kind::Pair, ..) => Some("off".into()),
        (_, Some(""), _) => None,
        (_, Some(default), _) => Some(default.to_owned()),
        (_, None, automatic) => automatic.map(str::to_owned),
    };
    if let Some(given) = given {
        text.push_str(&format!(" [default: {given}]"));
    }
    if let Some(theirs) = flag.peer_default {
        text.push_str(&format!(" [lmcache: {theirs}]"));
    }
    text
}

/// Path of the configuration file named on the command line.
pub(crate) fn config_file(matches: &ArgMatches) -> Option<String> {
    matches.get_one::<String>("config").cloned()
}

/// Reads the command line into its layer.
pub(crate) fn read_matches(matches: &ArgMatches, settings: &mut Settings, mistakes: &mut Vec<Mistake>) {
    for flag in flags::all() {
        let read = match flag.kind {
            Kind::Switch => matches.get_flag(flag.name).then_some(Ok(Value::Bool(true))),
            Kind::Pair if matches.get_flag(flag.name) => Some(Ok(Value::Bool(true))),
            Kind::Pair => matches.get_flag(&flag.negative()).then_some(Ok(Value::Bool(false))),
            _ => matches
                .contains_id(flag.name)
                .then(|| matches.get_many::<String>(flag.name).into_iter().flatten().cloned().collect())
                .map(|words| value::from_words(flag, words)),
        };
        if let Some(read) = read {
            settings.put(flag, Source::CommandLine, read, mistakes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Settings, String> {
        let matches = with_server_flags(Command::new("server").no_binary_name(true))
            .try_get_matches_from(words)
            .map_err(|error| error.to_string())?;
        let mut settings = Settings::defaults();
        let mut mistakes = Vec::new();
        read_matches(&matches, &mut settings, &mut mistakes);
        if mistakes.is_empty() { Ok(settings) } else { Err(format!("{mistakes:?}")) }
    }

    #[test]
    fn the_command_is_well_formed() {
        with_server_flags(Command::new("server")).debug_assert();
    }

    #[test]
    fn pairs_take_the_last_word() {
        for (words, expected) in [
            (&["--l1-use-lazy"][..], true),
            (&["--no-l1-use-lazy"], false),
            (&["--no-l1-use-lazy", "--l1-use-lazy"], true),
            (&["--l1-use-lazy", "--no-l1-use-lazy"], false),
            (&["--l1-use-lazy", "--no-l1-use-lazy", "--l1-use-lazy", "--no-l1-use-lazy"], false),
            (&["--no-l1-use-l"], false),
            (&[], true),
        ] {
            assert_eq!(parse(words).unwrap().bool("l1-use-lazy"), expected, "{words:?}");
        }
    }

    #[test]
    fn lists_take_any_number_of_words_and_the_last_flag_wins() {
        let locations = |words: &[&str]| parse(words).unwrap().list("runtime-plugin-locations");
        assert_eq!(locations(&["--runtime-plugin-locations", "a", "b", "c", "--port", "1"]), ["a", "b", "c"]);
        assert_eq!(
            locations(&["--runtime-plugin-locations", "a", "b", "--runtime-plugin-locations", "c"]),
            ["c"]
        );
        assert_eq!(
            locations(&["--runtime-plugin-locations", "a", "--runtime-plugin-locations"]),
            Vec::<String>::new()
        );
        assert_eq!(locations(&["--runtime-plugin-locations=a"]), ["a"]);
    }

    #[test]
    fn repeatable_flags_add_up_and_single_ones_take_the_last() {
        let settings = parse(&[
            "--l2-adapter",
            r#"{"type":"fs"}"#,
            "--port=1",
            "--l2-adapter",
            r#"{"type":"s3"}"#,
            "--port",
            "2",
        ])
        .unwrap();
        assert_eq!(settings.objects("l2-adapter").len(), 2);
        assert_eq!(settings.int("port"), Some(2));
    }

    #[test]
    fn abbreviations_must_be_unambiguous() {
        assert_eq!(parse(&["--chunk", "16"]).unwrap().int("chunk-size"), Some(16));
        assert!(parse(&["--coordinator-e", "1"]).is_err());
        assert!(parse(&["--enable"]).unwrap().list("enable").is_empty());
    }

    #[test]
    fn an_empty_value_and_a_negative_number_are_values() {
        assert_eq!(parse(&["--shm-name", ""]).unwrap().text("shm-name"), Some(""));
        assert_eq!(parse(&["--shm-name="]).unwrap().text("shm-name"), Some(""));
        assert_eq!(parse(&["--null-block-id", "-1"]).unwrap().int("null-block-id"), Some(-1));
    }
}

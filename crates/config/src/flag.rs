//! What a server flag is: one record that feeds the parser, the checks, `config show` and the
//! reference pages.
//!
//! Owns the shape of a flag, not the list of them (`flags/`) and not any value (`value.rs`).

use std::fmt;

/// One setting of the server, with every spelling under which an operator can give it.
#[derive(Debug)]
pub struct Flag {
    /// Long flag without the leading dashes, such as `l1-size-gb`.
    pub name: &'static str,
    /// Heading under which help and reference list it.
    pub group: Group,
    /// Type, arity and accepted range.
    pub kind: Kind,
    /// Default as it would be typed; `None` when the setting is absent by default.
    pub default: Option<&'static str>,
    /// What the server puts in place of an absent value, for people.
    pub automatic: Option<&'static str>,
    /// The peer's default where ours differs from it.
    pub peer_default: Option<&'static str>,
    /// What it does, in one or two sentences.
    pub help: &'static str,
    /// Environment variables of the peer that are read after `LARDER_<FLAG>`, first one wins.
    pub peer_environment: &'static [&'static str],
    /// Whether the feature behind it exists here.
    pub support: Support,
    /// Accepted, but not listed in the help text.
    pub hidden: bool,
    /// Where the flag comes from.
    pub origin: Origin,
    /// Whether it can be changed while the server runs.
    pub is_hot: bool,
}

/// Where a flag comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of `lmcache server` with the same meaning (spec/config-and-cli.md 1).
    Peer,
    /// An addition of Larder.
    Larder,
}

/// Whether the feature behind a flag exists.
#[derive(Clone, Copy, Debug)]
pub enum Support {
    /// It works.
    Full,
    /// Accepted and checked, but nothing in this server depends on it.
    NoEffect(&'static str),
    /// Refused unless it is left off.
    Missing {
        /// What is not part of this build, as the subject of a sentence.
        feature: &'static str,
        /// What the operator can do.
        hint: &'static str,
    },
}

/// One accepted word of a [`Kind::Choice`].
#[derive(Debug)]
pub struct Choice {
    /// The word as typed.
    pub word: &'static str,
    /// Set when the word is known but cannot be used: reason and hint.
    pub refused: Option<(&'static str, &'static str)>,
}

impl Choice {
    /// A word that works.
    #[must_use]
    pub const fn works(word: &'static str) -> Self {
        Self { word, refused: None }
    }

    /// Words that all work.
    pub(crate) const fn all<const N: usize>(words: &[&'static str]) -> [Self; N] {
        let mut choices = [const { Self::works("") }; N];
        let mut index = 0;
        while index < N {
            choices[index] = Self::works(words[index]);
            index += 1;
        }
        choices
    }

    /// A known word that is refused with a reason and a hint.
    #[must_use]
    pub const fn refused(word: &'static str, reason: &'static str, hint: &'static str) -> Self {
        Self { word, refused: Some((reason, hint)) }
    }
}

/// Type, arity and accepted range of a flag.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `--x`, off when absent.
    Switch,
    /// `--x` or `--no-x`, the last one wins.
    Pair,
    /// A whole number, both ends included.
    Int {
        /// Smallest accepted value.
        min: i64,
        /// Largest accepted value.
        max: i64,
    },
    /// A finite number.
    Float(Range),
    /// Free text, empty allowed.
    Text,
    /// Text that must not be empty.
    Name,
    /// One of a few words.
    Choice(&'static [Choice]),
    /// `--x a b c`: zero or more words; a repeated flag replaces the earlier ones.
    List,
    /// One JSON value of any type.
    Json,
    /// One JSON object per occurrence; occurrences add up.
    Objects,
}

/// Accepted range of a finite number.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    min: f64,
    min_excluded: bool,
    max: f64,
    zero_too: bool,
}

impl Range {
    /// From `min` up to `max`, both included.
    #[must_use]
    pub const fn within(min: f64, max: f64) -> Self {
        Self { min, min_excluded: false, max, zero_too: false }
    }

    /// More than zero, up to `max`.
    #[must_use]
    pub const fn positive(max: f64) -> Self {
        Self { min: 0.0, min_excluded: true, max, zero_too: false }
    }

    /// At least `min`.
    #[must_use]
    pub const fn at_least(min: f64) -> Self {
        Self { min, min_excluded: false, max: f64::MAX, zero_too: false }
    }

    /// Zero, which switches something off, or at least `min`.
    #[must_use]
    pub const fn zero_or_at_least(min: f64) -> Self {
        Self { min, min_excluded: false, max: f64::MAX, zero_too: true }
    }

    /// Whether `value` is finite and inside.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        if !value.is_finite() {
            return false;
        }
        let above = if self.min_excluded { value > self.min } else { value >= self.min };
        (above && value <= self.max) || (self.zero_too && value == 0.0)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open_ended = self.max == f64::MAX;
        if self.zero_too {
            write!(formatter, "0 or a finite number of at least {}", self.min)
        } else if self.min_excluded && open_ended {
            write!(formatter, "a finite number above {}", self.min)
        } else if self.min_excluded {
            write!(formatter, "a number above {} and up to {}", self.min, self.max)
        } else if open_ended {
            write!(formatter, "a finite number of at least {}", self.min)
        } else {
            write!(formatter, "a number from {} to {}", self.min, self.max)
        }
    }
}

impl Kind {
    /// What would be accepted, as a noun phrase for messages and the reference.
    #[must_use]
    pub fn accepted(&self) -> String {
        match self {
            Self::Switch | Self::Pair => "`true` or `false`".into(),
            Self::Int { min, max: i64::MAX } if *min == i64::MIN => "a whole number".into(),
            Self::Int { min, max: i64::MAX } => format!("a whole number of at least {min}"),
            Self::Int { min, max } => format!("a whole number from {min} to {max}"),
            Self::Float(range) => range.to_string(),
            Self::Text => "text".into(),
            Self::Name => "text that is not empty".into(),
            Self::Choice(choices) => words(choices.iter().filter(|choice| choice.refused.is_none())),
            Self::List => "a list of words".into(),
            Self::Json => "one JSON value".into(),
            Self::Objects => "JSON objects".into(),
        }
    }

    /// Short type name for help and reference, such as `int`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Pair => "switch (`--x` / `--no-x`)",
            Self::Int { .. } => "int",
            Self::Float(_) => "float",
            Self::Text | Self::Name => "text",
            Self::Choice(_) => "choice",
            Self::List => "0 or more words",
            Self::Json => "JSON",
            Self::Objects => "JSON object, repeatable",
        }
    }
}

fn words<'a>(choices: impl Iterator<Item = &'a Choice>) -> String {
    let words: Vec<String> = choices.map(|choice| format!("`{}`", choice.word)).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".into(),
    }
}

impl Flag {
    /// A flag of the peer that works here and is absent by default.
    #[must_use]
    pub const fn new(name: &'static str, group: Group, kind: Kind, help: &'static str) -> Self {
        Self {
            name,
            group,
            kind,
            default: None,
            automatic: None,
            peer_default: None,
            help,
            peer_environment: &[],
            support: Support::Full,
            hidden: false,
            origin: Origin::Peer,
            is_hot: false,
        }
    }

    pub(crate) const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    pub(crate) const fn automatic(mut self, text: &'static str) -> Self {
        self.automatic = Some(text);
        self
    }

    pub(crate) const fn peer_default(mut self, text: &'static str) -> Self {
        self.peer_default = Some(text);
        self
    }

    pub(crate) const fn peer_environment(mut self, names: &'static [&'static str]) -> Self {
        self.peer_environment = names;
        self
    }

    pub(crate) const fn no_effect(mut self, why: &'static str) -> Self {
        self.support = Support::NoEffect(why);
        self
    }

    pub(crate) const fn missing(mut self, feature: &'static str, hint: &'static str) -> Self {
        self.support = Support::Missing { feature, hint };
        self
    }

    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    pub(crate) const fn ours(mut self) -> Self {
        self.origin = Origin::Larder;
        self
    }

    /// It can be changed while the server runs; see [`Live`](super::Live).
    pub(crate) const fn hot(mut self) -> Self {
        self.is_hot = true;
        self
    }

    /// Key in the configuration file, such as `l1_size_gb`.
    #[must_use]
    pub fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Environment variable of ours, such as `LARDER_L1_SIZE_GB`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("LARDER_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// The negative spelling of a [`Kind::Pair`], such as `no-l1-use-lazy`.
    #[must_use]
    pub fn negative(&self) -> String {
        format!("no-{}", self.name)
    }
}

/// Headings, in the order of the help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Configuration file and logging: Larder's own flags.
    Larder,
    /// Cache server and transfer.
    Server,
    /// Runtime plugins.
    Plugins,
    /// Memory of the first tier.
    L1,
    /// Eviction from the first tier.
    Eviction,
    /// Second tier.
    L2,
    /// Admin HTTP server.
    Http,
    /// Metrics, traces, extra logs.
    Observability,
    /// Peer-to-peer transfer.
    P2p,
    /// Fleet coordinator.
    Coordinator,
    /// Flags of the peer's command-line framework.
    Framework,
}

impl Group {
    /// Every heading in order.
    pub const ALL: [Self; 11] = [
        Self::Larder,
        Self::Server,
        Self::Plugins,
        Self::L1,
        Self::Eviction,
        Self::L2,
        Self::Http,
        Self::Observability,
        Self::P2p,
        Self::Coordinator,
        Self::Framework,
    ];

    /// The heading as printed.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Self::Larder => "Larder",
            Self::Server => "Cache server",
            Self::Plugins => "Runtime plugins",
            Self::L1 => "L1 memory",
            Self::Eviction => "Eviction",
            Self::L2 => "L2 storage",
            Self::Http => "Admin HTTP",
            Self::Observability => "Observability",
            Self::P2p => "Peer to peer",
            Self::Coordinator => "Coordinator",
            Self::Framework => "Accepted for compatibility",
        }
    }
}

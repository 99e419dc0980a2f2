//! Mutants, what became of them, and what that says about the tests.

use std::fmt::{self, Write as _};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Share of the mutants that have to be killed, in percent.
const KILLED_MIN: usize = 90;

/// A change that cargo-mutants can make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    pub(super) package: String,
    pub(super) file: String,
    /// With file, line and column, as cargo-mutants prints it.
    pub(super) name: String,
}

impl Mutant {
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Some(Self { package: text("package")?, file: text("file")?, name: text("name")? })
    }

    /// What is changed, without the place.
    fn mutation(&self) -> &str {
        self.name.split_once(": ").map_or(&self.name, |(_, mutation)| mutation)
    }
}

/// An entry of the list of mutants that no test can kill.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Equivalent {
    pub(super) file: String,
    pub(super) mutation: String,
}

impl Equivalent {
    pub(super) fn names(&self, mutant: &Mutant) -> bool {
        self.file == mutant.file && self.mutation == mutant.mutation()
    }
}

impl fmt::Display for Equivalent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.mutation)
    }
}

/// How the tests met a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// A test failed, or never ended.
    Killed,
    /// All tests passed.
    Survived,
    /// It does not compile.
    Unviable,
}

/// The mutants in cargo-mutants' `outcomes.json`.
pub(super) fn parse(text: &str) -> Result<Vec<(Mutant, Fate)>> {
    let json: Value = serde_json::from_str(text).context("reading what cargo-mutants found")?;
    let outcomes = json["outcomes"].as_array().context("cargo-mutants lists no outcomes")?;
    let tried = outcomes.iter().filter_map(|outcome| {
        let fate = match outcome["summary"].as_str()? {
            "CaughtMutant" | "Timeout" => Fate::Killed,
            "MissedMutant" => Fate::Survived,
            "Unviable" => Fate::Unviable,
            _ => return None,
        };
        Some((Mutant::from_json(&outcome["scenario"]["Mutant"])?, fate))
    });
    Ok(tried.collect())
}

/// What a run says about the tests.
#[derive(Debug, Default)]
pub(super) struct Verdict<'a> {
    pub(super) killed: usize,
    survived: Vec<&'a Mutant>,
    equivalent: usize,
    unviable: usize,
    /// Entries of the list of which every mutant in this run was killed.
    pub(super) killed_after_all: Vec<&'a Equivalent>,
}

impl<'a> Verdict<'a> {
    pub(super) fn of(tried: &'a [(Mutant, Fate)], equivalents: &'a [Equivalent]) -> Self {
        let mut verdict = Self::default();
        for (mutant, fate) in tried {
            let is_equivalent = equivalents.iter().any(|entry| entry.names(mutant));
            match fate {
                Fate::Killed => verdict.killed += 1,
                Fate::Survived if is_equivalent => verdict.equivalent += 1,
                Fate::Survived => verdict.survived.push(mutant),
                Fate::Unviable => verdict.unviable += 1,
            }
        }
        let is_killed = |entry: &&Equivalent| {
            let mut own = tried.iter().filter(|(mutant, _)| entry.names(mutant)).peekable();
            own.peek().is_some() && own.all(|(_, fate)| *fate == Fate::Killed)
        };
        verdict.killed_after_all = equivalents.iter().filter(is_killed).collect();
        verdict
    }

    /// Mutants that count.
    pub(super) fn counted(&self) -> usize {
        self.killed + self.survived.len()
    }

    /// Fails when too many of `wanted` survived. Of a sample, only when chance alone would make it look so
    /// bad once in fifty times.
    pub(super) fn judge(&self, wanted: usize) -> Result<()> {
        let (counted, min) = (self.counted() as f64, KILLED_MIN as f64 / 100.0);
        let is_sample = self.tried() < wanted;
        let chance = if is_sample { 2.0 * (counted * min * (1.0 - min)).sqrt() } else { 0.0 };
        ensure!(
            self.killed as f64 + chance >= counted * min,
            "less than {KILLED_MIN} % of the mutants were killed"
        );
        Ok(())
    }

    /// Mutants that were made at all.
    fn tried(&self) -> usize {
        self.counted() + self.equivalent + self.unviable
    }

    /// The survivors, and the score in one line.
    pub(super) fn summary(&self, wanted: usize) -> String {
        let mut text = String::new();
        for mutant in &self.survived {
            _ = writeln!(text, "survived: {}", mutant.name);
        }
        let Self { killed, equivalent, unviable, .. } = self;
        let share = (killed * 100).checked_div(self.counted()).unwrap_or(100);
        let tried = self.tried();
        _ = write!(
            text,
            "{killed} of {} killed ({share} %), {equivalent} equivalent, {unviable} do not compile",
            self.counted()
        );
        if tried < wanted {
            _ = write!(text, "; the time was up before {} others", wanted - tried);
        }
        text
    }
}

/// One line each.
pub(super) fn lines<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("  {item}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes() -> Vec<(Mutant, Fate)> {
        let outcome = |summary: &str, line: u32| {
            format!(
                r#"{{"scenario": {{"Mutant": {{"package": "p", "file": "a.rs", "name": "a.rs:{line}:1: replace f"}}}}, "summary": "{summary}"}}"#
            )
        };
        let baseline = r#"{"scenario": "Baseline", "summary": "Success"}"#.to_owned();
        let all = ["CaughtMutant", "Timeout", "MissedMutant", "Unviable"].into_iter().zip(1..);
        let all: Vec<String> =
            std::iter::once(baseline).chain(all.map(|(summary, line)| outcome(summary, line))).collect();
        parse(&format!(r#"{{"outcomes": [{}]}}"#, all.join(","))).unwrap()
    }

    fn entry(mutation: &str) -> Equivalent {
        Equivalent { file: "a.rs".to_owned(), mutation: mutation.to_owned() }
    }

    #[test]
    fn survivors_count_unless_they_are_equivalent() {
        let outcomes = outcomes();
        let verdict = Verdict::of(&outcomes, &[]);
        assert_eq!((verdict.killed, verdict.counted(), verdict.unviable), (2, 3, 1));
        assert!(verdict.summary(5).starts_with("survived: a.rs:3:1: replace f\n2 of 3 killed (66 %)"));
        assert!(verdict.summary(5).ends_with("before 1 others"));
        let equivalents = [entry("replace f"), entry("replace g")];
        let verdict = Verdict::of(&outcomes, &equivalents);
        assert_eq!((verdict.counted(), verdict.equivalent), (2, 1));
        assert!(verdict.killed_after_all.is_empty(), "one is not killed, the other not of this run");
    }

    #[test]
    fn a_share_is_judged_and_that_of_a_sample_with_regard_to_chance() {
        let outcomes = outcomes();
        let verdict = Verdict::of(&outcomes, &[]);
        verdict.judge(4).unwrap_err();
        verdict.judge(5).unwrap();
        let many = vec![outcomes; 10].concat();
        Verdict::of(&many, &[]).judge(1000).unwrap_err();
        Verdict::of(&many, &[entry("replace f")]).judge(1000).unwrap();
    }

    #[test]
    fn an_entry_whose_mutants_are_killed_is_stale() {
        let killed = &outcomes()[..2];
        let equivalents = [entry("replace f")];
        assert_eq!(Verdict::of(killed, &equivalents).killed_after_all, [&equivalents[0]]);
    }
}

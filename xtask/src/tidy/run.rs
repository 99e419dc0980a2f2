//! All checks in one go.

use anyhow::{Context, Result, bail};

use super::source::sources;
use super::{circles, documents, edges, files, licences, limits, purity, shape, texts};
use crate::shell;

/// Checks everything.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(arg) = args.first() {
        bail!("`tidy` takes no argument, got `{arg}`");
    }
    let sources = sources()?;
    let metadata = metadata()?;
    let mut findings = Vec::new();
    findings.extend(edges::check(&metadata, &architecture()?));
    findings.extend(licences::check(&metadata)?);
    findings.extend(documents::check(&sources));
    findings.extend(circles::check(&sources));
    findings.extend(limits::check(&sources));
    findings.extend(shape::check(&sources));
    for source in &sources {
        findings.extend(purity::check(source));
        findings.extend(files::check(source));
        findings.extend(texts::check(source));
    }
    for finding in &findings {
        eprintln!("{}: {}", finding.place, finding.text);
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    eprintln!("    {} files, nothing to say", sources.len());
    Ok(())
}

fn metadata() -> Result<serde_json::Value> {
    let text = shell::output(shell::cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    serde_json::from_str(&text).context("reading `cargo metadata`")
}

fn architecture() -> Result<String> {
    let path = shell::root().join("ARCHITECTURE.md");
    std::fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))
}

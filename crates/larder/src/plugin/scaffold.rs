//! `larder plugin new`: a plugin to start from, with its manifest.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgMatches;
use larder_supervise::Manifest;

use crate::exit;

const PYTHON: &str = include_str!("templates/plugin.py");
const BASH: &str = include_str!("templates/plugin.sh");
const MANIFEST: &str = include_str!("templates/plugin.toml");
/// What the Python examples have in common.
const HELPER: &str = include_str!("../../../../examples/runtime_plugins/_plugin.py");
/// What the templates call the plugin.
const PLACEHOLDER: &str = "PLUGIN_NAME";

/// Writes the files and says what to do with them.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let dir = matches.get_one::<PathBuf>("dir").map_or(Path::new(""), PathBuf::as_path);
    match write(dir, text("name"), text("lang")) {
        Ok(plugin) => {
            let shown = plugin.display();
            println!("wrote {shown}\nwrote {}", Manifest::path_for(&plugin).display());
            if matches.get_flag("helper") {
                match write_helper(dir) {
                    Ok(written) => println!("{written}"),
                    Err(error) => {
                        eprintln!("error: {error}");
                        return ExitCode::from(exit::FAILED);
                    }
                }
            }
            println!("try it:  larder plugin run {shown}\ntest it: larder plugin test {shown}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

/// Writes both files; neither replaces one that is there.
fn write(dir: &Path, name: &str, lang: &str) -> Result<PathBuf, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(is_plain) {
        return Err(format!(
            "`{}` is no name for a plugin\nhint: letters, digits, `_` and `-`, a letter or digit first",
            name.escape_debug()
        ));
    }
    let (extension, template) = if lang == "python" { ("py", PYTHON) } else { ("sh", BASH) };
    let plugin = dir.join(format!("{name}.{extension}"));
    let manifest = Manifest::path_for(&plugin);
    if let Some(taken) = [&plugin, &manifest].into_iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(format!("`{}` is there already", taken.display()));
    }
    std::fs::create_dir_all(dir).map_err(|error| format!("`{}` cannot be made: {error}", dir.display()))?;
    create(&plugin, &template.replace(PLACEHOLDER, name), 0o755)?;
    create(&manifest, &MANIFEST.replace(PLACEHOLDER, name), 0o644)?;
    Ok(plugin)
}

/// Writes the module that plugins in Python can share. One that is there is left as it is.
fn write_helper(dir: &Path) -> Result<String, String> {
    let path = dir.join("_plugin.py");
    if path.exists() {
        return Ok(format!("{} is there already", path.display()));
    }
    create(&path, HELPER, 0o644)?;
    Ok(format!("wrote {}", path.display()))
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    created
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("`{}` cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_with_a_valid_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let bare = Manifest::default();
        for lang in ["python", "bash"] {
            let plugin = write(folder.path(), &format!("my-{lang}"), lang).unwrap();
            let text = std::fs::read_to_string(&plugin).unwrap();
            assert!(text.contains(&format!("my-{lang}")) && !text.contains(PLACEHOLDER), "{text}");
            assert_ne!(Manifest::load(&plugin, &bare).unwrap(), bare);
        }
    }

    #[test]
    fn the_folder_is_made_and_the_helper_kept() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("a/b");
        write(&dir, "a", "python").unwrap();
        assert!(write_helper(&dir).unwrap().starts_with("wrote "));
        assert!(write_helper(&dir).unwrap().ends_with("is there already"));
        assert!(write(&folder.path().join("a/b/a.py"), "b", "bash").unwrap_err().contains("cannot be made"));
    }

    #[test]
    fn nothing_is_replaced_and_names_stay_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a", "bash").unwrap();
        assert!(write(folder.path(), "a", "bash").unwrap_err().ends_with("is there already"));
        for name in ["", "../a", "_a", "-a", ".a", "a b", "a\n"] {
            assert!(write(folder.path(), name, "bash").unwrap_err().contains("hint:"), "{name:?}");
        }
    }
}

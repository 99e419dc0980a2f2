//! How a plugin file is run: the program, its arguments, and what was passed over on the way.
//!
//! Owns the order `#!` line, then the table for the file's extension, then the file itself where it is a
//! native program. A script with an extension of the table runs with or without the executable bit
//! (spec/runtime-plugins.md 4).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::shebang;
use super::shebang::Shebang;
use crate::error::SuperviseError;
use crate::regular;

/// Programs tried, in order, for each file extension (without its dot) when the `#!` line gives none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreters(BTreeMap<String, Vec<String>>);

impl Default for Interpreters {
    /// `python` then `python3` for `.py`; `bash` for `.sh`.
    fn default() -> Self {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
        Self(BTreeMap::from([
            ("py".to_owned(), names(&["python", "python3"])),
            ("sh".to_owned(), names(&["bash"])),
        ]))
    }
}

impl Interpreters {
    /// Adds or replaces the programs for an extension given without its dot.
    pub fn set(&mut self, extension: impl Into<String>, programs: Vec<String>) {
        self.0.insert(extension.into(), programs);
    }

    /// The programs for a path's extension; `None` where the extension is unknown. Case counts.
    pub fn for_path(&self, path: &Path) -> Option<&[String]> {
        self.0.get(path.extension()?.to_str()?).map(Vec::as_slice)
    }

    /// The extensions in the table, each with its place in the start order.
    pub(crate) fn rank(&self, path: &Path) -> usize {
        let extension = path.extension().and_then(OsStr::to_str);
        self.0.keys().position(|known| Some(known.as_str()) == extension).unwrap_or(self.0.len())
    }
}

/// A command line that runs one plugin file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The program that is executed, as found.
    pub program: PathBuf,
    /// The whole argument vector, `program` first.
    pub argv: Vec<OsString>,
    /// Variables the `#!` line sets through `env`.
    pub environment: Vec<(String, String)>,
    /// The program the `#!` line asked for and that was not found, where a fallback was taken.
    pub passed_over: Option<String>,
}

/// What the first bytes of a file say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// It starts with a `#!` line.
    Script(Shebang),
    /// It is a native executable.
    Native,
    /// Anything else.
    Plain,
}

/// Looks at the first bytes of `path`.
pub(crate) fn format_of(path: &Path) -> std::io::Result<Format> {
    let head = regular::read_head(path, shebang::FIRST_LINE_MAX_BYTES as u64)?;
    Ok(match shebang::parse(&head) {
        Some(shebang) => Format::Script(shebang),
        None if head.starts_with(b"\x7fELF") => Format::Native,
        None => Format::Plain,
    })
}

/// Chooses how to run `path`; bare program names are looked up on `search_path` (the value of `PATH`).
///
/// # Errors
/// [`SuperviseError::Unreadable`], [`SuperviseError::NoInterpreter`].
pub fn choose(path: &Path, table: &Interpreters, search_path: &OsStr) -> Result<Invocation, SuperviseError> {
    let format =
        format_of(path).map_err(|source| SuperviseError::Unreadable { path: path.to_path_buf(), source })?;
    let mut tried = Vec::new();
    let mut passed_over = None;
    if let Format::Script(shebang) = &format {
        if let Some(program) = find(&shebang.program, search_path) {
            let args = shebang.args.iter().map(OsString::from);
            return Ok(invocation(program, args, path, shebang.environment.clone(), None));
        }
        tried.push(shebang.program.clone());
        passed_over = Some(shebang.program.clone());
    }
    if format == Format::Native && is_executable(path) {
        let program = Path::new(".").join(path);
        return Ok(Invocation {
            argv: vec![program.clone().into_os_string()],
            program,
            environment: Vec::new(),
            passed_over: None,
        });
    }
    for name in table.for_path(path).unwrap_or_default() {
        if let Some(program) = find(name, search_path) {
            return Ok(invocation(program, std::iter::empty(), path, Vec::new(), passed_over));
        }
        tried.push(name.clone());
    }
    Err(SuperviseError::NoInterpreter { path: path.to_path_buf(), tried })
}

fn invocation(
    program: PathBuf,
    args: impl Iterator<Item = OsString>,
    path: &Path,
    environment: Vec<(String, String)>,
    passed_over: Option<String>,
) -> Invocation {
    let mut argv = vec![program.clone().into_os_string()];
    argv.extend(args);
    argv.push(explicit(path).into_os_string());
    Invocation { program, argv, environment, passed_over }
}

/// The path as an argument that no program can take for an option.
fn explicit(path: &Path) -> PathBuf {
    match path.as_os_str().as_bytes().first() {
        Some(b'-') => Path::new(".").join(path),
        _ => path.to_path_buf(),
    }
}

/// Finds an executable file: a name with a slash is taken as it stands, any other is looked up on
/// `search_path`.
pub(crate) fn find(name: &str, search_path: &OsStr) -> Option<PathBuf> {
    if name.contains('/') {
        return is_executable(Path::new(name)).then(|| PathBuf::from(name));
    }
    std::env::split_paths(search_path).map(|dir| dir.join(name)).find(|candidate| is_executable(candidate))
}

/// Whether `path` is a regular file with an executable bit.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Sandbox {
        dir: tempfile::TempDir,
    }

    impl Sandbox {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
            let path = self.dir.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }

        fn choose(&self, path: &Path) -> Result<Invocation, SuperviseError> {
            choose(path, &Interpreters::default(), self.dir.path().as_os_str())
        }
    }

    #[test]
    fn fallback_order_is_python_then_python3() {
        let sandbox = Sandbox::new();
        let script = sandbox.file("x.py", b"print()\n", 0o644);
        let python3 = sandbox.file("python3", b"", 0o755);
        assert_eq!(sandbox.choose(&script).unwrap().program, python3);
        let python = sandbox.file("python", b"", 0o755);
        assert_eq!(sandbox.choose(&script).unwrap().program, python);
        assert_eq!(sandbox.choose(&script).unwrap().argv, [python.as_os_str(), script.as_os_str()]);
    }

    #[test]
    fn shebang_wins_over_extension_and_keeps_its_arguments() {
        let sandbox = Sandbox::new();
        let custom = sandbox.file("custom", b"", 0o755);
        sandbox.file("python", b"", 0o755);
        let line = format!("#!{} -u -B\n", custom.display());
        let script = sandbox.file("x.py", line.as_bytes(), 0o644);
        let chosen = sandbox.choose(&script).unwrap();
        assert_eq!(chosen.argv, [custom.as_os_str(), "-u".as_ref(), "-B".as_ref(), script.as_os_str()]);
        assert_eq!(chosen.passed_over, None);
    }

    #[test]
    fn env_is_resolved_on_the_search_path() {
        let sandbox = Sandbox::new();
        let python3 = sandbox.file("python3", b"", 0o755);
        sandbox.file("python", b"", 0o755);
        let script = sandbox.file("x.py", b"#!/usr/bin/env -S python3 -u\n", 0o644);
        let chosen = sandbox.choose(&script).unwrap();
        assert_eq!(chosen.argv, [python3.as_os_str(), "-u".as_ref(), script.as_os_str()]);
    }

    #[test]
    fn a_missing_interpreter_falls_back_and_says_so() {
        let sandbox = Sandbox::new();
        let bash = sandbox.file("bash", b"", 0o755);
        let script = sandbox.file("x.sh", b"#!/no/such/shell\n", 0o644);
        let chosen = sandbox.choose(&script).unwrap();
        assert_eq!((chosen.program, chosen.passed_over), (bash, Some("/no/such/shell".to_owned())));
    }

    #[test]
    fn nothing_found_lists_what_was_tried() {
        let sandbox = Sandbox::new();
        let script = sandbox.file("x.py", b"#!/no/such/python\n", 0o644);
        let error = sandbox.choose(&script).unwrap_err().to_string();
        for name in ["/no/such/python", "`python`", "`python3`"] {
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn native_programs_run_as_they_are_and_data_does_not() {
        let sandbox = Sandbox::new();
        let native = sandbox.file("tool", b"\x7fELF....", 0o755);
        assert_eq!(sandbox.choose(&native).unwrap().argv, [native.as_os_str()]);
        let data = sandbox.file("tool.dat", b"data", 0o755);
        assert!(matches!(sandbox.choose(&data), Err(SuperviseError::NoInterpreter { .. })));
    }

    #[test]
    fn other_languages_need_their_shebang() {
        let sandbox = Sandbox::new();
        let perl = sandbox.file("perl", b"", 0o755);
        let script = sandbox.file("x.pl", b"#!/usr/bin/env perl\n", 0o755);
        assert_eq!(sandbox.choose(&script).unwrap().program, perl);
    }

    #[test]
    fn a_leading_dash_is_no_option() {
        assert_eq!(explicit(Path::new("-c")), Path::new("./-c"));
        assert_eq!(explicit(Path::new("-d/x.py")), Path::new("./-d/x.py"));
        assert_eq!(explicit(Path::new("x.py")), Path::new("x.py"));
        assert_eq!(explicit(Path::new("d/-x.py")), Path::new("d/-x.py"));
    }
}

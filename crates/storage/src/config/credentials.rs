//! A password from where it can be kept: a file, the environment, or the configuration itself.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::fields::Fields;
use crate::secret::Secret;

/// Looks up an environment variable.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Longest password file that is read.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// The value of `password`, or what `password_file` or `password_env` lead to; at most one of them may be
/// given.
pub(super) fn password(fields: &mut Fields<'_>, env: Env<'_>) -> Secret {
    let keys = ["password", "password_file", "password_env"];
    let given: Vec<&str> = keys.into_iter().filter(|key| fields.value(key).is_some()).collect();
    if let [_, second, ..] = given[..] {
        fields.problem(
            second,
            "the password is given twice",
            Some(format!("keep one of `{}`", given.join("`, `"))),
        );
    }
    if let Some(path) = fields.string("password_file") {
        match read(Path::new(&path)) {
            Ok(password) => return Secret::new(password),
            Err(problem) => fields.problem("password_file", format!("`{path}` {problem}"), None),
        }
    }
    if let Some(name) = fields.string("password_env") {
        match env(&name) {
            Some(password) => return Secret::new(password),
            None => fields.problem("password_env", format!("environment variable `{name}` is not set"), None),
        }
    }
    Secret::new(fields.string("password").unwrap_or_default())
}

/// The text of a regular file without the line end that editors leave. Never waits for somebody to write.
fn read(path: &Path) -> Result<String, String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let cannot = |error: &dyn std::fmt::Display| format!("cannot be read: {error}");
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|error| cannot(&error))?);
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err("is not a regular file".to_owned());
    }
    let mut text = String::new();
    file.take(PASSWORD_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| cannot(&error))?;
    if text.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(format!("is larger than {PASSWORD_BYTES_MAX} bytes"));
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

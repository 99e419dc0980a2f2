//! A program's description as bytes in a memory file, since arguments and environment exceed any socket
//! buffer.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};

use super::spawner::LaunchSpec;
use crate::manifest::Confinement;

/// Largest description taken; the kernel's own limit on arguments and environment is a quarter of this.
pub(super) const DESCRIPTION_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Writes `spec` into a new memory file.
pub(super) fn to_memory_file(spec: &LaunchSpec) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("plugin-launch", MemfdFlags::CLOEXEC)?);
    file.write_all(&encode(spec))?;
    file.rewind()?;
    Ok(file.into())
}

/// Reads a description back.
pub(super) fn from_memory_file(fd: OwnedFd) -> io::Result<LaunchSpec> {
    let mut bytes = Vec::new();
    File::from(fd).take(DESCRIPTION_MAX_BYTES).read_to_end(&mut bytes)?;
    decode(&bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Strings, each behind its length; lists behind their count.
fn encode(spec: &LaunchSpec) -> Vec<u8> {
    let mut out = Vec::new();
    let number = |out: &mut Vec<u8>, n: usize| out.extend(u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
    let string = |out: &mut Vec<u8>, s: &[u8]| {
        number(out, s.len());
        out.extend_from_slice(s);
    };
    string(&mut out, spec.program.as_os_str().as_bytes());
    number(&mut out, spec.argv.len());
    for arg in &spec.argv {
        string(&mut out, arg.as_bytes());
    }
    number(&mut out, spec.environment.len());
    for (name, value) in &spec.environment {
        string(&mut out, name.as_bytes());
        string(&mut out, value.as_bytes());
    }
    // The only structured part. Without restrictions it is empty, and nothing has to be parsed.
    let confinement =
        if spec.confinement.is_none() { Ok(Vec::new()) } else { serde_json::to_vec(&spec.confinement) };
    // Strings, numbers and lists always serialize; a path that is not UTF-8 yields text that no reader
    // accepts.
    string(&mut out, &confinement.unwrap_or_else(|_| b"?".to_vec()));
    out
}

fn decode(mut bytes: &[u8]) -> Option<LaunchSpec> {
    let cursor = &mut bytes;
    let program = PathBuf::from(string(cursor)?);
    let mut argv = Vec::new();
    for _ in 0..number(cursor)? {
        argv.push(string(cursor)?);
    }
    let mut environment = Vec::new();
    for _ in 0..number(cursor)? {
        environment.push((string(cursor)?, string(cursor)?));
    }
    let confinement = string(cursor)?.into_vec();
    let confinement = if confinement.is_empty() {
        Confinement::default()
    } else {
        serde_json::from_slice(&confinement).ok()?
    };
    bytes.is_empty().then_some(LaunchSpec { program, argv, environment, confinement })
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(u32::from_le_bytes(*head))
}

fn string(bytes: &mut &[u8]) -> Option<OsString> {
    let length = number(bytes)? as usize;
    let (head, tail) = bytes.split_at_checked(length)?;
    *bytes = tail;
    Some(OsString::from_vec(head.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = OsString> {
        proptest::collection::vec(1u8..=255, 0..20).prop_map(OsString::from_vec)
    }

    proptest! {
        #[test]
        fn round_trip(
            program in text(),
            argv in proptest::collection::vec(text(), 0..5),
            environment in proptest::collection::vec((text(), text()), 0..5),
            nice: Option<i32>,
        ) {
            let confinement = Confinement { nice, user: Some("u".into()), ..Confinement::default() };
            let spec = LaunchSpec { program: program.into(), argv, environment, confinement };
            prop_assert_eq!(from_memory_file(to_memory_file(&spec).unwrap()).unwrap(), spec);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            _ = decode(&bytes);
        }
    }
}

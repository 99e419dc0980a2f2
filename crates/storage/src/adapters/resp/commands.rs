//! What each operation says to one server.

use std::io;
use std::sync::Arc;

use larder_core::key::ObjectKey;

use super::command::Command;
use super::connection::{Connection, Fetched};
use super::options::{Node, RespOptions};
use super::reply::{Redirect, Reply, redirect, server_failure};
use crate::adapter::{Deleted, Found, KeyResult, LoadItem, Loaded, Seal, StoreItem, Stored};
use crate::error::Error;
use crate::names::wire_name;

/// What the name of a seal starts with. The braces make a cluster keep it where its object is.
pub(super) const SEAL_PREFIX: &str = "larder:seal:{";

/// What one server said about one key.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Done(KeyResult<T>),
    Elsewhere(Redirect),
}

/// Names and options all operations share.
#[derive(Debug)]
pub(super) struct Dialect {
    pub(super) options: RespOptions,
}

impl Dialect {
    /// `[<prefix>@]<wire name>`, as the peer's `valkey` adapter writes it.
    pub(super) fn name(&self, key: &ObjectKey) -> String {
        let name = wire_name(key);
        if self.options.key_prefix.is_empty() { name } else { format!("{}@{name}", self.options.key_prefix) }
    }

    /// The name of an object's seal; none when a cluster would keep it elsewhere than the object.
    fn seal_name(&self, name: &str) -> Option<String> {
        (!name.contains(['{', '}'])).then(|| format!("{SEAL_PREFIX}{name}}}"))
    }

    /// Stores what the server does not hold yet in that length.
    pub(super) fn store(
        &self,
        connection: &mut Connection,
        node: &Node,
        items: &[&StoreItem],
        is_asking: bool,
    ) -> io::Result<Vec<Answer<Stored>>> {
        let names: Vec<String> = items.iter().map(|item| self.name(&item.key)).collect();
        let lengths = self.lengths(connection, node, &names, is_asking)?;
        let is_missing = |index: usize| match &lengths[index] {
            Answer::Done(Ok(length)) => *length != items[index].buffer.len() as u64,
            _ => false,
        };
        let missing: Vec<usize> = (0..items.len()).filter(|index| is_missing(*index)).collect();
        for index in &missing {
            self.send_object(connection, &names[*index], items[*index], is_asking)?;
        }
        let mut answers: Vec<Answer<Stored>> = lengths
            .into_iter()
            .map(|answer| match answer {
                Answer::Done(result) => Answer::Done(result.map(|_| Stored { bytes_written: 0 })),
                Answer::Elsewhere(redirect) => Answer::Elsewhere(redirect),
            })
            .collect();
        for index in missing {
            let bytes_written = items[index].buffer.len() as u64;
            skip_asking(connection, is_asking)?;
            let reply = connection.reply()?;
            answers[index] = answer("store object", node, reply, |_| Some(Stored { bytes_written }));
            for _ in 0..self.expirations(&names[index]).len() {
                skip_asking(connection, is_asking)?;
                connection.reply()?;
            }
        }
        Ok(answers)
    }

    /// Writes an object and its seal at one moment: a reader between the two would take a good object for a
    /// corrupt one. What has no seal takes one that may be left of another object away.
    fn send_object(
        &self,
        connection: &mut Connection,
        name: &str,
        item: &StoreItem,
        is_asking: bool,
    ) -> io::Result<()> {
        // Without a seal, no bytes: they decode to none.
        let seal = item.seal.map(|seal| seal.encode(&item.key).to_vec()).unwrap_or_default();
        let seal_name = self.seal_name(name);
        let args = if seal_name.is_some() { 5 } else { 3 };
        let mut head = asking(is_asking);
        head.extend_from_slice(format!("*{args}\r\n$4\r\nMSET\r\n${}\r\n{name}\r\n", name.len()).as_bytes());
        head.extend_from_slice(format!("${}\r\n", item.buffer.len()).as_bytes());
        connection.send(&head)?;
        connection.send_buffer(&*item.buffer)?;
        let mut tail = b"\r\n".to_vec();
        if let Some(seal_name) = &seal_name {
            tail.extend_from_slice(&Command::args([seal_name.as_bytes(), &seal]));
        }
        for command in self.expirations(name) {
            tail.extend_from_slice(&asking(is_asking));
            tail.extend_from_slice(&command.encode());
        }
        connection.send(&tail)
    }

    /// What makes the server forget an object. The seal goes first: one that outlives its object could be
    /// taken for another's.
    fn expirations(&self, name: &str) -> Vec<Command> {
        let Some(ttl) = self.options.ttl_s else { return Vec::new() };
        let names = [self.seal_name(name), Some(name.to_owned())];
        let expire = |name| Command::new("EXPIRE").arg(name).arg(ttl.to_string());
        names.into_iter().flatten().map(expire).collect()
    }

    /// Says which keys are held, and how long they are.
    pub(super) fn find(
        &self,
        connection: &mut Connection,
        node: &Node,
        keys: &[&ObjectKey],
        is_asking: bool,
    ) -> io::Result<Vec<Answer<Found>>> {
        let names: Vec<String> = keys.iter().map(|key| self.name(key)).collect();
        let found = |answer| match answer {
            Answer::Done(Ok(0)) => Answer::Done(Err(Error::Absent)),
            Answer::Done(Ok(bytes)) => Answer::Done(Ok(Found::asked(Some(bytes)))),
            Answer::Done(Err(error)) => Answer::Done(Err(error)),
            Answer::Elsewhere(redirect) => Answer::Elsewhere(redirect),
        };
        Ok(self.lengths(connection, node, &names, is_asking)?.into_iter().map(found).collect())
    }

    /// Lengths of values; 0 for what is not held, since objects are never empty.
    pub(super) fn lengths(
        &self,
        connection: &mut Connection,
        node: &Node,
        names: &[String],
        is_asking: bool,
    ) -> io::Result<Vec<Answer<u64>>> {
        let mut bytes = Vec::new();
        for name in names {
            bytes.extend_from_slice(&asking(is_asking));
            bytes.extend_from_slice(&Command::new("STRLEN").arg(name).encode());
        }
        connection.send(&bytes)?;
        let mut answers = Vec::with_capacity(names.len());
        for _ in names {
            skip_asking(connection, is_asking)?;
            let length = |reply| match reply {
                Reply::Integer(length) => u64::try_from(length).ok(),
                _ => None,
            };
            answers.push(answer("look up object", node, connection.reply()?, length));
        }
        Ok(answers)
    }

    /// Fills buffers.
    pub(super) fn load(
        &self,
        connection: &mut Connection,
        node: &Node,
        items: &[&LoadItem],
        is_asking: bool,
    ) -> io::Result<Vec<Answer<Loaded>>> {
        let names: Vec<String> = items.iter().map(|item| self.name(&item.key)).collect();
        let mut bytes = Vec::new();
        for name in &names {
            bytes.extend_from_slice(&asking(is_asking));
            let get = Command::new("MGET").arg(name);
            let get = self.seal_name(name).iter().fold(get, Command::arg);
            bytes.extend_from_slice(&get.encode());
        }
        connection.send(&bytes)?;
        let mut answers = Vec::with_capacity(items.len());
        for (item, name) in items.iter().zip(&names) {
            skip_asking(connection, is_asking)?;
            let is_sealed = self.seal_name(name).is_some();
            if let Err(error) = connection.array(1 + usize::from(is_sealed))? {
                answers.push(refused("load object", node, &error));
                continue;
            }
            let fetched = connection.fetch(&*item.buffer)?;
            let seal = match is_sealed.then(|| connection.reply()).transpose()? {
                Some(Reply::Bytes(bytes)) => Seal::decode(&bytes, &item.key),
                _ => None,
            };
            answers.push(Answer::Done(match fetched {
                Fetched::Filled => Ok(Loaded { seal }),
                Fetched::Nil => Err(Error::Absent),
                Fetched::OtherLength(held) => Err(item.length_mismatch(held).into()),
            }));
        }
        Ok(answers)
    }

    /// Removes objects and their seals.
    pub(super) fn delete(
        &self,
        connection: &mut Connection,
        node: &Node,
        keys: &[&ObjectKey],
        is_asking: bool,
    ) -> io::Result<Vec<Answer<Deleted>>> {
        let names: Vec<String> = keys.iter().map(|key| self.name(key)).collect();
        let lengths = self.lengths(connection, node, &names, is_asking)?;
        let mut bytes = Vec::new();
        for name in &names {
            for name in [Some(name.clone()), self.seal_name(name)].into_iter().flatten() {
                bytes.extend_from_slice(&asking(is_asking));
                bytes.extend_from_slice(&Command::new("UNLINK").arg(name).encode());
            }
        }
        connection.send(&bytes)?;
        let mut answers = Vec::with_capacity(keys.len());
        for (name, length) in names.iter().zip(lengths) {
            skip_asking(connection, is_asking)?;
            let removed = answer("delete object", node, connection.reply()?, |reply| match reply {
                Reply::Integer(count) => Some(count > 0),
                _ => None,
            });
            if self.seal_name(name).is_some() {
                skip_asking(connection, is_asking)?;
                connection.reply()?;
            }
            answers.push(match (removed, length) {
                (Answer::Elsewhere(redirect), _) => Answer::Elsewhere(redirect),
                (Answer::Done(Err(error)), _) => Answer::Done(Err(error)),
                (Answer::Done(Ok(false)), _) => Answer::Done(Err(Error::Absent)),
                (Answer::Done(Ok(true)), length) => {
                    let bytes_freed = if let Answer::Done(Ok(bytes)) = length { bytes } else { 0 };
                    Answer::Done(Ok(Deleted { bytes_freed }))
                }
            });
        }
        Ok(answers)
    }
}

/// What a server answered, given what a good reply means.
fn answer<T>(attempt: &str, node: &Node, reply: Reply, good: impl FnOnce(Reply) -> Option<T>) -> Answer<T> {
    match reply {
        Reply::Error(error) => refused(attempt, node, &error),
        reply => {
            let text: Arc<str> = format!("unexpected reply `{}`", reply.summary()).into();
            Answer::Done(good(reply).ok_or_else(|| server_failure(attempt, &text).into()))
        }
    }
}

fn refused<T>(attempt: &str, node: &Node, error: &str) -> Answer<T> {
    match redirect(error, node) {
        Some(redirect) => Answer::Elsewhere(redirect),
        None => Answer::Done(Err(server_failure(&format!("{attempt} at `{node}`"), error).into())),
    }
}

/// The command that lets a key in migration be asked for.
fn asking(is_asking: bool) -> Vec<u8> {
    if is_asking { Command::new("ASKING").encode() } else { Vec::new() }
}

fn skip_asking(connection: &mut Connection, is_asking: bool) -> io::Result<()> {
    if is_asking { connection.reply().map(drop) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_lies_where_its_object_does_or_nowhere() {
        let dialect = Dialect { options: RespOptions::new(Node { host: "h".into(), port: 1 }) };
        let name = dialect.seal_name("m@1@0@aa").unwrap();
        assert_eq!(super::super::cluster::slot(&name), super::super::cluster::slot("m@1@0@aa"));
        assert_eq!(dialect.seal_name("m{x}@1@0@aa"), None);
    }
}

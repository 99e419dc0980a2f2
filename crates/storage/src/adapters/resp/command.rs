//! Commands as bytes.

/// A command being put together.
#[derive(Clone, Debug)]
pub(super) struct Command {
    args: usize,
    body: Vec<u8>,
}

impl Command {
    pub(super) fn new(name: &str) -> Self {
        Self { args: 0, body: Vec::new() }.arg(name)
    }

    pub(super) fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        let arg = arg.as_ref();
        self.body.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        self.body.extend_from_slice(arg);
        self.body.extend_from_slice(b"\r\n");
        self.args += 1;
        self
    }

    /// Further arguments of a command whose beginning was sent already.
    pub(super) fn args<'a>(args: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        args.into_iter().fold(Self { args: 0, body: Vec::new() }, Self::arg).body
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", self.args).into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_strings() {
        let command = Command::new("SET").arg("k").arg([0, 13, 10]);
        assert_eq!(command.encode(), b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\0\r\n\r\n");
    }
}

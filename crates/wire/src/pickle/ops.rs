//! The allowed instructions, one at a time.

use super::error::PickleError;

/// An instruction with its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op<'a> {
    Mark,
    Stop,
    None,
    Bool(bool),
    Int(i64),
    Str(&'a str),
    Bytes(&'a [u8]),
    /// Module and name.
    Global(&'a str, &'a str),
    StackGlobal,
    Reduce,
    EmptyTuple,
    /// A tuple of the topmost 1, 2 or 3 values.
    Tuple(usize),
    /// A tuple of everything since the mark.
    TupleToMark,
    EmptyList,
    Append,
    AppendsToMark,
    Get(usize),
    /// Remember the topmost value under this number, or under the next one.
    Put(Option<usize>),
    PersistentId,
}

/// Reads instructions.
#[derive(Clone, Debug)]
pub(super) struct Ops<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Ops<'a> {
    /// Starts a program; the first instruction must name a protocol in `protocols`.
    pub(super) fn start(
        bytes: &'a [u8],
        protocols: std::ops::RangeInclusive<u8>,
    ) -> Result<Self, PickleError> {
        let mut ops = Self { bytes, position: 0 };
        match ops.array()? {
            [0x80, protocol] if protocols.contains(&protocol) => Ok(ops),
            [0x80, protocol] => Err(PickleError::Protocol { protocol }),
            [opcode, _] => Err(PickleError::Opcode { opcode, position: 0 }),
        }
    }

    /// Bytes after the last instruction read.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let taken = self.rest().get(..length).ok_or(PickleError::Truncated)?;
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let taken = *self.rest().first_chunk().ok_or(PickleError::Truncated)?;
        self.position += N;
        Ok(taken)
    }

    fn index_u8(&mut self) -> Result<usize, PickleError> {
        let [index] = self.array()?;
        Ok(usize::from(index))
    }

    fn index_u32(&mut self) -> Result<usize, PickleError> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| PickleError::Truncated)
    }

    fn index_u64(&mut self) -> Result<usize, PickleError> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| PickleError::Truncated)
    }

    fn text(&mut self, length: usize) -> Result<Op<'a>, PickleError> {
        let text = std::str::from_utf8(self.take(length)?);
        text.map(Op::Str).map_err(|_| PickleError::Structure("text is not UTF-8"))
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let length = self.rest().iter().position(|byte| *byte == b'\n').ok_or(PickleError::Truncated)?;
        let line = self.take(length)?;
        self.position += 1;
        std::str::from_utf8(line).map_err(|_| PickleError::Structure("text is not UTF-8"))
    }

    /// A little-endian two's complement number of up to eight bytes.
    fn long(&mut self) -> Result<i64, PickleError> {
        let length = self.index_u8()?;
        let bytes = self.take(length)?;
        if length > 8 {
            return Err(PickleError::Structure("number beyond 64 bits"));
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut number = [if negative { 0xff } else { 0 }; 8];
        number[..length].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(number))
    }

    /// The next instruction. Frame heads only announce lengths and are passed over.
    pub(super) fn next(&mut self) -> Result<Op<'a>, PickleError> {
        loop {
            let position = self.position;
            let [opcode] = self.array()?;
            return Ok(match opcode {
                0x95 => {
                    self.take(8)?;
                    continue;
                }
                b'(' => Op::Mark,
                b'.' => Op::Stop,
                b'N' => Op::None,
                0x88 => Op::Bool(true),
                0x89 => Op::Bool(false),
                b'K' => Op::Int(i64::from(u8::from_le_bytes(self.array()?))),
                b'M' => Op::Int(i64::from(u16::from_le_bytes(self.array()?))),
                b'J' => Op::Int(i64::from(i32::from_le_bytes(self.array()?))),
                0x8a => Op::Int(self.long()?),
                0x8c => {
                    let length = self.index_u8()?;
                    self.text(length)?
                }
                b'X' => {
                    let length = self.index_u32()?;
                    self.text(length)?
                }
                b'C' => {
                    let length = self.index_u8()?;
                    Op::Bytes(self.take(length)?)
                }
                b'B' => {
                    let length = self.index_u32()?;
                    Op::Bytes(self.take(length)?)
                }
                0x8e => {
                    let length = self.index_u64()?;
                    Op::Bytes(self.take(length)?)
                }
                b'c' => Op::Global(self.line()?, self.line()?),
                0x93 => Op::StackGlobal,
                b'R' => Op::Reduce,
                b')' => Op::EmptyTuple,
                0x85..=0x87 => Op::Tuple(usize::from(opcode - 0x84)),
                b't' => Op::TupleToMark,
                b']' => Op::EmptyList,
                b'a' => Op::Append,
                b'e' => Op::AppendsToMark,
                b'h' => Op::Get(self.index_u8()?),
                b'j' => Op::Get(self.index_u32()?),
                b'q' => Op::Put(Some(self.index_u8()?)),
                b'r' => Op::Put(Some(self.index_u32()?)),
                0x94 => Op::Put(None),
                b'Q' => Op::PersistentId,
                opcode => return Err(PickleError::Opcode { opcode, position }),
            });
        }
    }
}

/// Writes a number in its shortest form.
pub(super) fn int(out: &mut Vec<u8>, number: u64) {
    if let Ok(number) = u8::try_from(number) {
        out.extend_from_slice(&[b'K', number]);
    } else if let Ok(number) = u16::try_from(number) {
        out.push(b'M');
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(b'J');
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        // Sizes stay below 2^63, so eight bytes keep the sign bit clear.
        out.extend_from_slice(&[0x8a, 8]);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

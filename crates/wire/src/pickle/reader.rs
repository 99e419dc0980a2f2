//! The reader: a stack machine whose only values are those a list of tensors is made of.

use larder_core::dtype::Dtype;

use super::error::PickleError;
use super::limits::{MARKS_MAX, MEMO_MAX, RANK_MAX, STACK_MAX, TENSORS_MAX, TUPLE_ITEMS_MAX};
use super::ops::{Op, Ops};
use super::storage::Storage;
use super::tensor::PickledTensor;

/// Reads a pickled list of CPU tensors. Nothing is executed; the tensors borrow their bytes from `data`.
///
/// # Errors
/// [`PickleError`] for everything else, including programs that would do something.
pub fn read_tensors(data: &[u8]) -> Result<Vec<PickledTensor<'_>>, PickleError> {
    let mut ops = Ops::start(data, 3..=5)?;
    let mut machine = Machine::default();
    loop {
        match ops.next()? {
            Op::Stop => break,
            op => machine.step(op)?,
        }
    }
    match ops.rest().len() {
        0 => machine.finish(),
        count => Err(PickleError::TrailingBytes { count }),
    }
}

/// A name the machine knows. Constructors build data; nothing is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Constructor {
    /// `torch._utils._rebuild_tensor_v2`: a view of a typed storage.
    TypedTensor,
    /// `torch._utils._rebuild_tensor_v3`: a view of an untyped storage, of the element type in the last
    /// argument.
    UntypedTensor,
    /// `torch.storage._load_from_bytes`: a storage.
    Storage,
    /// `collections.OrderedDict`: the (empty) hooks of a tensor.
    Hooks,
}

/// A value. Compound values are indexes, so copying one is cheap and nesting needs no recursion.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Str(&'a str),
    Bytes(&'a [u8]),
    Dtype(Dtype),
    Constructor(Constructor),
    /// A range of [`Machine::items`].
    Tuple {
        start: usize,
        length: usize,
    },
    Storage(Storage<'a>),
    /// An index of [`Machine::tensors`].
    Tensor(usize),
    Hooks,
    /// The one list there is.
    List,
}

#[derive(Debug, Default)]
struct Machine<'a> {
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: Vec<Value<'a>>,
    /// Elements of all tuples.
    items: Vec<Value<'a>>,
    tensors: Vec<PickledTensor<'a>>,
    /// Elements of the list once it exists.
    list: Option<Vec<usize>>,
}

impl<'a> Machine<'a> {
    fn step(&mut self, op: Op<'a>) -> Result<(), PickleError> {
        match op {
            Op::Mark => {
                limit(self.marks.len(), MARKS_MAX, "open marks")?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            Op::None => self.push(Value::None),
            Op::Bool(_) => self.push(Value::Bool),
            Op::Int(value) => self.push(Value::Int(value)),
            Op::Str(text) => self.push(Value::Str(text)),
            Op::Bytes(bytes) => self.push(Value::Bytes(bytes)),
            Op::Global(module, name) => self.push(global(module, name)?),
            Op::StackGlobal => match (self.pop()?, self.pop()?) {
                (Value::Str(name), Value::Str(module)) => self.push(global(module, name)?),
                _ => Err(PickleError::Structure("a name is not text")),
            },
            Op::EmptyTuple => self.tuple(self.stack.len()),
            Op::Tuple(length) => {
                let start = self.stack.len().checked_sub(length).ok_or(UNDERFLOW)?;
                self.tuple(start)
            }
            Op::TupleToMark => {
                let start = self.mark()?;
                self.tuple(start)
            }
            Op::EmptyList if self.list.is_none() => {
                self.list = Some(Vec::new());
                self.push(Value::List)
            }
            Op::EmptyList => Err(PickleError::Structure("a second list")),
            Op::Append => {
                let start = self.stack.len().checked_sub(1).ok_or(UNDERFLOW)?;
                self.append(start)
            }
            Op::AppendsToMark => {
                let start = self.mark()?;
                self.append(start)
            }
            Op::Reduce => self.reduce(),
            Op::Get(index) => {
                let value =
                    *self.memo.get(index).ok_or(PickleError::Structure("recalls an unknown value"))?;
                self.push(value)
            }
            Op::Put(index) => self.remember(index),
            Op::PersistentId | Op::Stop => Err(PickleError::Structure("unexpected instruction")),
        }
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), PickleError> {
        limit(self.stack.len(), STACK_MAX, "values on the stack")?;
        self.stack.push(value);
        Ok(())
    }

    /// The topmost value, which must lie above the last mark.
    fn pop(&mut self) -> Result<Value<'a>, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(UNDERFLOW);
        }
        self.stack.pop().ok_or(UNDERFLOW)
    }

    fn mark(&mut self) -> Result<usize, PickleError> {
        self.marks.pop().ok_or(PickleError::Structure("no mark"))
    }

    fn check_floor(&self, start: usize) -> Result<(), PickleError> {
        if start < self.marks.last().copied().unwrap_or(0) { Err(UNDERFLOW) } else { Ok(()) }
    }

    /// Replaces the values from `start` by a tuple of them.
    fn tuple(&mut self, start: usize) -> Result<(), PickleError> {
        self.check_floor(start)?;
        let length = self.stack.len() - start;
        limit(length, RANK_MAX + 1, "elements in a tuple")?;
        limit(self.items.len() + length, TUPLE_ITEMS_MAX, "elements in tuples")?;
        let tuple = Value::Tuple { start: self.items.len(), length };
        self.items.extend(self.stack.drain(start..));
        self.push(tuple)
    }

    /// Moves the tensors from `start` into the list below them.
    fn append(&mut self, start: usize) -> Result<(), PickleError> {
        self.check_floor(start)?;
        let below = start.checked_sub(1).and_then(|index| self.stack.get(index));
        let (Some(Value::List), Some(list)) = (below, &mut self.list) else {
            return Err(PickleError::Structure("appends to something that is not the list"));
        };
        for value in self.stack.drain(start..) {
            let Value::Tensor(index) = value else {
                return Err(PickleError::Structure("an element is not a tensor"));
            };
            limit(list.len(), TENSORS_MAX, "tensors")?;
            list.push(index);
        }
        Ok(())
    }

    fn remember(&mut self, index: Option<usize>) -> Result<(), PickleError> {
        // Picklers number what they remember from 0 without gaps.
        if index.is_some_and(|index| index != self.memo.len()) {
            return Err(PickleError::Structure("remembers values out of order"));
        }
        limit(self.memo.len(), MEMO_MAX, "remembered values")?;
        self.memo.push(*self.stack.last().ok_or(UNDERFLOW)?);
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), PickleError> {
        let Value::Tuple { start, length } = self.pop()? else {
            return Err(PickleError::Structure("arguments are not a tuple"));
        };
        let Value::Constructor(constructor) = self.pop()? else {
            return Err(PickleError::Structure("calls something that is not a constructor"));
        };
        let arguments = &self.items[start..start + length];
        let value = match (constructor, arguments) {
            (Constructor::Hooks, []) => Value::Hooks,
            (Constructor::Storage, [Value::Bytes(stream)]) => Value::Storage(Storage::read(stream)?),
            (
                Constructor::TypedTensor,
                [Value::Storage(storage), offset, shape, stride, Value::Bool, Value::Hooks],
            ) => {
                let dtype = storage.dtype.ok_or(PickleError::Structure("a view without element type"))?;
                self.tensor(*storage, dtype, [offset, shape, stride].map(|value| *value))?
            }
            (
                Constructor::UntypedTensor,
                [
                    Value::Storage(storage),
                    offset,
                    shape,
                    stride,
                    Value::Bool,
                    Value::Hooks,
                    Value::Dtype(dtype),
                ],
            ) => {
                // torch writes an untyped storage here; this crate's writer one of bytes.
                if storage.dtype.is_some_and(|dtype| dtype != Dtype::Uint8) {
                    return Err(PickleError::Structure("a view with two element types"));
                }
                self.tensor(*storage, *dtype, [offset, shape, stride].map(|value| *value))?
            }
            _ => return Err(PickleError::Structure("unexpected arguments")),
        };
        self.push(value)
    }

    fn tensor(
        &mut self,
        storage: Storage<'a>,
        dtype: Dtype,
        [offset, shape, stride]: [Value<'a>; 3],
    ) -> Result<Value<'a>, PickleError> {
        limit(self.tensors.len(), TENSORS_MAX, "tensors")?;
        let tensor = PickledTensor::new(
            dtype,
            self.numbers(shape)?,
            self.numbers(stride)?,
            number(offset)?,
            storage.bytes,
        )?;
        self.tensors.push(tensor);
        Ok(Value::Tensor(self.tensors.len() - 1))
    }

    fn numbers(&self, tuple: Value<'a>) -> Result<Vec<u64>, PickleError> {
        match tuple {
            Value::Tuple { start, length } => {
                self.items[start..start + length].iter().map(|value| number(*value)).collect()
            }
            _ => Err(PickleError::Structure("a shape is not a tuple")),
        }
    }

    fn finish(mut self) -> Result<Vec<PickledTensor<'a>>, PickleError> {
        let (Some(Value::List), 0, true) = (self.stack.pop(), self.stack.len(), self.marks.is_empty()) else {
            return Err(PickleError::Structure("the program does not end with the list"));
        };
        let list = self.list.unwrap_or_default();
        Ok(list.into_iter().map(|index| self.tensors[index].clone()).collect())
    }
}

const UNDERFLOW: PickleError = PickleError::Structure("takes a value that is not there");

fn limit(count: usize, limit: usize, what: &'static str) -> Result<(), PickleError> {
    if count >= limit { Err(PickleError::TooMany { what, limit }) } else { Ok(()) }
}

fn global<'a>(module: &str, name: &str) -> Result<Value<'a>, PickleError> {
    Ok(match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Value::Constructor(Constructor::TypedTensor),
        ("torch._utils", "_rebuild_tensor_v3") => Value::Constructor(Constructor::UntypedTensor),
        ("torch.storage", "_load_from_bytes") => Value::Constructor(Constructor::Storage),
        ("collections", "OrderedDict") => Value::Constructor(Constructor::Hooks),
        ("torch", dtype) => {
            Value::Dtype(Dtype::from_name(dtype).ok_or_else(|| PickleError::refused(module, name))?)
        }
        _ => return Err(PickleError::refused(module, name)),
    })
}

fn number(value: Value<'_>) -> Result<u64, PickleError> {
    match value {
        Value::Int(number) => number.try_into().map_err(|_| PickleError::Structure("a size is negative")),
        _ => Err(PickleError::Structure("a size is not a number")),
    }
}

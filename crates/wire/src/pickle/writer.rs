//! The writer: a list of packed tensors in the form torch's pickles have, leaving out what is remembered and
//! never recalled.

use larder_core::dtype::Dtype;

use super::error::PickleError;
use super::limits::{RANK_MAX, TENSORS_MAX};
use super::ops::int;
use super::storage::{typed_class, write_head};

/// A packed tensor to write: its bytes come from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSpec<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Elements per dimension.
    pub shape: &'a [u64],
}

/// A part of the result, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The bytes of a tensor.
    Tensor {
        /// Which of the tensors asked for.
        index: usize,
        /// How many bytes it has.
        length: usize,
    },
}

impl Piece {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Tensor { length, .. } => *length,
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Lays out a pickled list of `tensors`. The caller puts the pieces together with the tensors' bytes
/// (little-endian, row-major), so these are copied once at most.
///
/// # Errors
/// [`PickleError::UnsupportedDtype`], and [`PickleError::TooMany`] for lists or tensors beyond what can be
/// read back.
pub fn write_tensors(tensors: &[TensorSpec<'_>]) -> Result<Vec<Piece>, PickleError> {
    let limit = TENSORS_MAX;
    if tensors.len() > limit {
        return Err(PickleError::TooMany { what: "tensors", limit });
    }
    let mut pieces = Vec::with_capacity(tensors.len() * 2 + 1);
    let mut bytes = b"\x80\x04](".to_vec();
    for (index, tensor) in tensors.iter().enumerate() {
        let length = tensor.length()?;
        tensor.write_before(&mut bytes, index, length);
        pieces.push(Piece::Bytes(std::mem::take(&mut bytes)));
        pieces.push(Piece::Tensor { index, length });
        tensor.write_after(&mut bytes);
    }
    bytes.extend_from_slice(b"e.");
    pieces.push(Piece::Bytes(bytes));
    Ok(pieces)
}

impl TensorSpec<'_> {
    /// Bytes of the packed tensor.
    fn length(&self) -> Result<usize, PickleError> {
        if typed_class(self.dtype).is_none() && !is_untyped(self.dtype) {
            return Err(PickleError::UnsupportedDtype(self.dtype));
        }
        let limit = RANK_MAX;
        if self.shape.len() > limit {
            return Err(PickleError::TooMany { what: "dimensions", limit });
        }
        // Counting empty dimensions as 1 bounds the strides too, which are written even for a tensor without
        // elements.
        let bound = self
            .shape
            .iter()
            .try_fold(self.dtype.item_bytes(), |length, count| length.checked_mul((*count).max(1)));
        let limit = isize::MAX as usize;
        match bound.and_then(|bound| usize::try_from(bound).ok()).filter(|bound| *bound <= limit) {
            Some(_) if self.shape.contains(&0) => Ok(0),
            Some(length) => Ok(length),
            None => Err(PickleError::TooMany { what: "bytes in a tensor", limit }),
        }
    }

    fn write_before(&self, out: &mut Vec<u8>, index: usize, length: usize) {
        let rebuild = if is_untyped(self.dtype) { "_rebuild_tensor_v3" } else { "_rebuild_tensor_v2" };
        global(out, "torch._utils", rebuild);
        out.push(b'(');
        global(out, "torch.storage", "_load_from_bytes");
        let mut head = Vec::new();
        write_head(&mut head, self.dtype, &index.to_string(), length as u64);
        out.push(0x8e);
        out.extend_from_slice(&((head.len() + length) as u64).to_le_bytes());
        out.extend_from_slice(&head);
    }

    fn write_after(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\x85RK\x00");
        tuple(out, self.shape.iter().copied());
        // Row-major: elements between neighbours are the product of the later dimensions, empty ones counted
        // as 1.
        let strides = (1..=self.shape.len())
            .map(|next| self.shape[next..].iter().map(|count| (*count).max(1)).product::<u64>());
        tuple(out, strides);
        out.push(0x89);
        global(out, "collections", "OrderedDict");
        out.extend_from_slice(b")R");
        if is_untyped(self.dtype) {
            global(out, "torch", self.dtype.name());
        }
        out.extend_from_slice(b"tR");
    }
}

/// Whether the type has no storage class of its own, so that the tensor names it.
fn is_untyped(dtype: Dtype) -> bool {
    matches!(
        dtype,
        Dtype::Float8E4m3fn
            | Dtype::Float8E4m3fnuz
            | Dtype::Float8E5m2
            | Dtype::Float8E5m2fnuz
            | Dtype::Float8E8m0fnu
            | Dtype::Uint16
            | Dtype::Uint32
            | Dtype::Uint64
    )
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    for text in [module, name] {
        out.push(0x8c);
        out.push(u8::try_from(text.len()).expect("names are short"));
        out.extend_from_slice(text.as_bytes());
    }
    out.push(0x93);
}

fn tuple(out: &mut Vec<u8>, numbers: impl Iterator<Item = u64>) {
    out.push(b'(');
    for number in numbers {
        int(out, number);
    }
    out.push(b't');
}

//! A tensor read from a pickle, and its way into contiguous bytes.

use larder_core::dtype::Dtype;

use super::error::PickleError;
use crate::device::view_span;

/// A view of borrowed bytes. Every element lies inside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickledTensor<'a> {
    dtype: Dtype,
    shape: Vec<u64>,
    stride: Vec<u64>,
    storage_offset: u64,
    storage: &'a [u8],
}

impl<'a> PickledTensor<'a> {
    pub(super) fn new(
        dtype: Dtype,
        shape: Vec<u64>,
        stride: Vec<u64>,
        storage_offset: u64,
        storage: &'a [u8],
    ) -> Result<Self, PickleError> {
        if shape.len() != stride.len() {
            return Err(PickleError::Structure("shape and stride differ in length"));
        }
        let end = view_span(&shape, &stride, storage_offset) * u128::from(dtype.item_bytes());
        if end > storage.len() as u128 {
            return Err(PickleError::OutsideStorage { end, length: storage.len() });
        }
        Ok(Self { dtype, shape, stride, storage_offset, storage })
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Elements per dimension.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Elements between neighbours, per dimension.
    #[must_use]
    pub fn stride(&self) -> &[u64] {
        &self.stride
    }

    /// Elements before the first.
    #[must_use]
    pub fn storage_offset(&self) -> u64 {
        self.storage_offset
    }

    /// The whole storage, of which the tensor is a view.
    #[must_use]
    pub fn storage(&self) -> &'a [u8] {
        self.storage
    }

    /// Bytes the elements take when packed. May be larger than the storage, for views that repeat elements.
    /// Saturates.
    #[must_use]
    pub fn packed_length(&self) -> u128 {
        let size = u128::from(self.dtype.item_bytes());
        self.shape.iter().fold(size, |length, count| length.saturating_mul(u128::from(*count)))
    }

    /// The elements where they lie, if they lie packed in row-major order.
    #[must_use]
    pub fn as_packed(&self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.packed_length()).ok()?;
        if length == 0 {
            return Some(&[]);
        }
        let mut expected = 1_u64;
        for (count, step) in self.shape.iter().zip(&self.stride).rev() {
            if *count != 1 && *step != expected {
                return None;
            }
            expected = expected.checked_mul(*count)?;
        }
        let start = self.byte_offset(self.storage_offset);
        self.storage.get(start..start.checked_add(length)?)
    }

    /// Copies the elements, packed in row-major order, to `out`, which must have their length and element
    /// type.
    ///
    /// # Errors
    /// [`PickleError::WrongDtype`] and [`PickleError::WrongLength`]; `out` is not touched then.
    pub fn copy_to(&self, dtype: Dtype, out: &mut [u8]) -> Result<(), PickleError> {
        if self.dtype != dtype {
            return Err(PickleError::WrongDtype { expected: dtype, got: self.dtype });
        }
        let length = self.packed_length();
        if length != out.len() as u128 {
            return Err(PickleError::WrongLength { expected: out.len(), got: length });
        }
        if let Some(packed) = self.as_packed() {
            out.copy_from_slice(packed);
            return Ok(());
        }
        self.copy_strided(out);
        Ok(())
    }

    fn byte_offset(&self, elements: u64) -> usize {
        usize::try_from(elements * self.dtype.item_bytes()).expect("elements lie inside the storage")
    }

    /// Copies run by run: a run is what lies packed at the end of the index order.
    fn copy_strided(&self, out: &mut [u8]) {
        let mut run_elements = 1;
        let mut outer = self.shape.len();
        while outer > 0 && (self.shape[outer - 1] == 1 || self.stride[outer - 1] == run_elements) {
            run_elements *= self.shape[outer - 1];
            outer -= 1;
        }
        let mut index = vec![0_u64; outer];
        let mut element = self.storage_offset;
        for run in out.chunks_exact_mut(self.byte_offset(run_elements)) {
            let start = self.byte_offset(element);
            run.copy_from_slice(&self.storage[start..start + run.len()]);
            for dimension in (0..outer).rev() {
                index[dimension] += 1;
                // The stride of a dimension of one element means nothing and may be anything: steps cancel
                // out modulo 2^64.
                element = element.wrapping_add(self.stride[dimension]);
                if index[dimension] < self.shape[dimension] {
                    break;
                }
                element = element.wrapping_sub(self.stride[dimension].wrapping_mul(self.shape[dimension]));
                index[dimension] = 0;
            }
        }
    }
}

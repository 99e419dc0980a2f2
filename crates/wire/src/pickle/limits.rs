//! How much of everything a pickle may have.

/// Most tensors in one list: one per chunk of a range.
pub const TENSORS_MAX: usize = 1 << 16;

/// Most dimensions of a tensor; KV tensors have up to six.
pub(super) const RANK_MAX: usize = 8;

/// Most values on the stack: a list is filled in batches, so this is far above need.
pub(super) const STACK_MAX: usize = TENSORS_MAX + 64;

/// Most open marks: one for a batch of the list, one for the tensor's arguments, one for a long tuple inside.
/// As with all limits here, a pickle with more is refused.
pub(super) const MARKS_MAX: usize = 4;

/// Most remembered values: torch remembers about a dozen per tensor.
pub(super) const MEMO_MAX: usize = TENSORS_MAX * 16;

/// Most elements in all tuples together: shapes and strides of every tensor.
pub(super) const TUPLE_ITEMS_MAX: usize = TENSORS_MAX * 32;

//! Pickles: what is read copies out without leaving its storage, and writes back to the same bytes.

#![no_main]

use larder_wire::pickle::{Piece, TensorSpec, read_tensors, write_tensors};
use libfuzzer_sys::fuzz_target;

/// Longest tensor copied, in bytes: views may repeat elements without end.
const COPY_BYTES_MAX: u128 = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let Ok(tensors) = read_tensors(data) else { return };
    for tensor in tensors.iter().take(64).filter(|tensor| tensor.packed_length() <= COPY_BYTES_MAX) {
        let mut packed = vec![0; tensor.packed_length() as usize];
        tensor.copy_to(tensor.dtype(), &mut packed).expect("type and length are the tensor's own");
        if let Some(lying) = tensor.as_packed() {
            assert_eq!(lying, packed);
        }
        let spec = TensorSpec { dtype: tensor.dtype(), shape: tensor.shape() };
        let Ok(pieces) = write_tensors(&[spec]) else { continue };
        let mut written = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => written.extend_from_slice(&bytes),
                Piece::Tensor { length, .. } => {
                    assert_eq!(length, packed.len());
                    written.extend_from_slice(&packed);
                }
            }
        }
        let again = read_tensors(&written).expect("written pickles are read");
        assert_eq!(again[0].as_packed(), Some(packed.as_slice()));
    }
});

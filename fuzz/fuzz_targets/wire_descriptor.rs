//! Tensor descriptors: what decodes is within what is shared, and encodes to the same value.

#![no_main]

use larder_wire::device::TensorDescriptor;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(descriptor) = TensorDescriptor::decode(data) else { return };
    if let TensorDescriptor::CpuShm(tensor) = &descriptor {
        assert!(tensor.metadata.byte_span() <= u128::from(tensor.segment_length));
    }
    let encoded = descriptor.encode().expect("decoded descriptors fit messages");
    assert_eq!(TensorDescriptor::decode(&encoded), Ok(descriptor));
});

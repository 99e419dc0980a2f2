//! The pickle reader and writer against what torch writes, and against torch itself where one is at hand.

use std::io::Write;
use std::process::{Command, Stdio};

use larder_core::dtype::Dtype;
use larder_wire::pickle::{PickleError, PickledTensor, Piece, TensorSpec, read_tensors, write_tensors};

use crate::support::{hex, unhex, vector_path, vectors};
use serde_json::Value;

fn sample(file: &str) -> Vec<u8> {
    std::fs::read(vector_path("pickle").join(file)).unwrap()
}

fn packed(tensor: &PickledTensor<'_>) -> Vec<u8> {
    let mut out = vec![0; usize::try_from(tensor.packed_length()).unwrap()];
    tensor.copy_to(tensor.dtype(), &mut out).unwrap();
    out
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

/// A packed tensor: element type, shape and bytes.
type Packed = (Dtype, Vec<u64>, Vec<u8>);

/// The bytes of a pickled list of packed tensors.
fn written(tensors: &[Packed]) -> Vec<u8> {
    let specs: Vec<_> = tensors.iter().map(|(dtype, shape, _)| TensorSpec { dtype: *dtype, shape }).collect();
    let mut out = Vec::new();
    for piece in write_tensors(&specs).unwrap() {
        match piece {
            Piece::Bytes(bytes) => out.extend_from_slice(&bytes),
            Piece::Tensor { index, length } => {
                assert_eq!(tensors[index].2.len(), length);
                out.extend_from_slice(&tensors[index].2);
            }
        }
    }
    out
}

#[test]
fn what_torch_writes_is_read() {
    let file = vectors("pickle/samples.json");
    let mut accepted = 0;
    for entry in file["samples"].as_array().unwrap().iter().filter(|entry| entry["accepted"] == true) {
        let name = entry["file"].as_str().unwrap();
        let data = sample(name);
        let tensors = read_tensors(&data).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = entry["tensors"].as_array().unwrap();
        assert_eq!(tensors.len(), expected.len(), "{name}");
        for (tensor, expected) in tensors.iter().zip(expected) {
            assert_eq!(tensor.dtype().name(), expected["dtype"], "{name}");
            assert_eq!(tensor.shape(), numbers(&expected["shape"]), "{name}");
            assert_eq!(tensor.stride(), numbers(&expected["stride"]), "{name}");
            assert_eq!(Some(tensor.storage_offset()), expected["storage_offset"].as_u64(), "{name}");
            if let Some(bytes) = expected["packed_hex"].as_str() {
                assert_eq!(hex(&packed(tensor)), bytes, "{name}");
            }
        }
        accepted += 1;
    }
    assert!(accepted > 25);
}

#[test]
fn a_real_retrieve_result_is_read() {
    let data = std::fs::read(vector_path("pickle_retrieve_sample.bin")).unwrap();
    let tensors = read_tensors(&data).unwrap();
    assert_eq!(tensors.len(), 3);
    for tensor in &tensors {
        assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::Bfloat16, &[2, 2, 16, 8][..]));
        assert_eq!(tensor.as_packed().map(<[u8]>::len), Some(1024));
    }
}

#[test]
fn everything_else_is_refused_with_a_reason() {
    let reasons = [
        ("refused_system_call", "name `posix.system` is not allowed"),
        ("refused_eval", "name `builtins.eval` is not allowed"),
        ("refused_protocol_2", "pickle protocol `2` is not supported, expected 3, 4 or 5"),
        ("refused_tuple", "not a list of tensors: the program does not end with the list"),
        ("refused_tensor", "not a list of tensors: the program does not end with the list"),
        ("refused_nested", "not a list of tensors: a second list"),
        ("refused_dict", "instruction `0x7d` at byte `13` is not allowed"),
        ("refused_bytes", "not a list of tensors: an element is not a tensor"),
        ("refused_numpy", "name `numpy._core.multiarray._reconstruct` is not allowed"),
        ("refused_complex", "name `torch.ComplexFloatStorage` is not allowed"),
        ("refused_parameter", "name `torch._utils._rebuild_parameter` is not allowed"),
        ("refused_hooks", "not a list of tensors: a second list"),
        ("refused_attribute", "not a list of tensors: unexpected arguments"),
    ];
    let file = vectors("pickle/samples.json");
    let refused = file["samples"].as_array().unwrap().iter().filter(|entry| entry["accepted"] == false);
    assert_eq!(refused.count(), reasons.len());
    for (name, reason) in reasons {
        let error = read_tensors(&sample(&format!("{name}.bin"))).expect_err(name);
        assert_eq!(error.to_string(), reason, "{name}");
    }
}

#[test]
fn every_cut_of_every_sample_is_an_error() {
    let file = vectors("pickle/samples.json");
    for entry in file["samples"].as_array().unwrap() {
        let name = entry["file"].as_str().unwrap();
        let data = sample(name);
        // The large one is mostly tensor bytes; its edges are enough.
        let cuts = (0..data.len()).filter(|cut| data.len() < 4096 || *cut < 1024 || data.len() - cut < 1024);
        for cut in cuts {
            assert!(read_tensors(&data[..cut]).is_err(), "{name} cut at {cut}");
        }
        let longer = [data.as_slice(), b"."].concat();
        assert!(read_tensors(&longer).is_err(), "{name} with a byte more");
    }
}

#[test]
fn damaged_samples_never_panic() {
    let file = vectors("pickle/samples.json");
    for entry in file["samples"].as_array().unwrap() {
        let mut data = sample(entry["file"].as_str().unwrap());
        if data.len() > 4096 {
            continue;
        }
        for position in 0..data.len() {
            let original = data[position];
            for replacement in [original ^ 1, original ^ 0x80, 0, 0xff, b'.', b'R', 0x8a, b'B'] {
                data[position] = replacement;
                for tensor in read_tensors(&data).into_iter().flatten() {
                    if tensor.packed_length() < 1 << 16 {
                        packed(&tensor);
                    }
                }
            }
            data[position] = original;
        }
    }
}

#[test]
fn a_view_outside_its_storage_is_refused() {
    let mut data = sample("dtype_float16.bin");
    // Shape (2, 3) becomes (2, 4): the marks around the two small numbers are found from the end.
    let at = data.windows(5).rposition(|window| window == b"K\x02K\x03\x86").unwrap();
    data[at + 3] = 4;
    let error = PickleError::OutsideStorage { end: 14, length: 12 };
    assert_eq!(read_tensors(&data), Err(error));
}

#[test]
fn declared_lengths_cost_nothing() {
    for program in [
        &b"\x80\x04]B\xff\xff\xff\xff"[..],
        b"\x80\x04]\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x80\x04]\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04X\xff\xff\xff\xff",
        b"\x80\x04\x8a\xff",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(read_tensors(program), Err(PickleError::Truncated));
    }
}

#[test]
fn piling_up_values_meets_a_limit() {
    for (start, op, hit) in [
        (&b""[..], &b"("[..], "open marks"),
        (b"", b"N", "values on the stack"),
        (b"", b")\x94", "values on the stack"),
        (b"N", b"\x94", "remembered values"),
        // A tuple of eight that becomes one argument of the next.
        (b"N", b"(NNNNNNNt\x86", "elements in tuples"),
    ] {
        let program = [b"\x80\x04", start, op.repeat(3_000_000).as_slice()].concat();
        match read_tensors(&program) {
            Err(PickleError::TooMany { what, .. }) => assert_eq!(what, hit),
            other => panic!("{hit}: {other:?}"),
        }
    }
}

#[test]
fn copying_checks_the_destination() {
    let data = sample("dtype_float16.bin");
    let tensor = &read_tensors(&data).unwrap()[0];
    let mut out = [7; 12];
    let wrong_type = PickleError::WrongDtype { expected: Dtype::Bfloat16, got: Dtype::Float16 };
    assert_eq!(tensor.copy_to(Dtype::Bfloat16, &mut out), Err(wrong_type));
    let wrong_length = PickleError::WrongLength { expected: 11, got: 12 };
    assert_eq!(tensor.copy_to(Dtype::Float16, &mut out[..11]), Err(wrong_length));
    assert_eq!(out, [7; 12]);
    assert_eq!(tensor.copy_to(Dtype::Float16, &mut out), Ok(()));
    assert_eq!(out, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
}

/// One list of every element type, and shapes at the edges.
fn lists() -> Vec<Vec<Packed>> {
    let filled = |dtype: Dtype, shape: &[u64]| {
        let length = usize::try_from(shape.iter().product::<u64>() * dtype.item_bytes()).unwrap();
        let modulus = if dtype == Dtype::Bool { 2 } else { 251 };
        (dtype, shape.to_vec(), (0..length).map(|at| (at % modulus) as u8).collect::<Vec<u8>>())
    };
    let writable = |dtype: &&Dtype| write_tensors(&[TensorSpec { dtype: **dtype, shape: &[1] }]).is_ok();
    let every_type: Vec<_> =
        Dtype::ALL.iter().filter(writable).map(|dtype| filled(*dtype, &[2, 1, 3])).collect();
    assert_eq!(every_type.len(), 18);
    let shapes = [&[][..], &[0], &[0, 4], &[1], &[300, 2], &[70_000], &[2, 3, 4, 5, 6]];
    vec![
        vec![],
        every_type,
        shapes.iter().map(|shape| filled(Dtype::Bfloat16, shape)).collect(),
        (0..2500).map(|_| filled(Dtype::Uint8, &[3])).collect(),
    ]
}

#[test]
fn what_is_written_reads_back() {
    for list in lists() {
        let data = written(&list);
        let tensors = read_tensors(&data).unwrap();
        assert_eq!(tensors.len(), list.len());
        for (tensor, (dtype, shape, bytes)) in tensors.iter().zip(&list) {
            assert_eq!((tensor.dtype(), tensor.shape()), (*dtype, shape.as_slice()));
            assert_eq!(tensor.as_packed(), Some(bytes.as_slice()));
        }
    }
    let complex = write_tensors(&[TensorSpec { dtype: Dtype::Complex64, shape: &[1] }]);
    assert_eq!(complex, Err(PickleError::UnsupportedDtype(Dtype::Complex64)));
    let huge = write_tensors(&[TensorSpec { dtype: Dtype::Uint8, shape: &[u64::MAX, 2] }]);
    assert!(matches!(huge, Err(PickleError::TooMany { .. })));
}

/// Needs a Python with torch, named by the environment variable `LARDER_PYTHON`.
#[test]
fn torch_loads_what_is_written_and_its_answer_is_read() {
    let Some(python) = std::env::var_os("LARDER_PYTHON") else {
        eprintln!("skipped: LARDER_PYTHON does not name a Python with torch");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pickle_roundtrip.py");
    for list in lists() {
        let mut child = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        // Dropped after writing, so that the script sees the end.
        child.stdin.take().unwrap().write_all(&written(&list)).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let tensors = answer["tensors"].as_array().unwrap();
        assert_eq!(tensors.len(), list.len());
        for (tensor, (dtype, shape, bytes)) in tensors.iter().zip(&list) {
            assert_eq!(tensor["dtype"], dtype.name());
            assert_eq!(numbers(&tensor["shape"]), *shape);
            assert_eq!(tensor["packed_hex"], hex(bytes), "{dtype} {shape:?}");
            assert_eq!((&tensor["contiguous"], &tensor["requires_grad"]), (&true.into(), &false.into()));
            assert_eq!(tensor["device"], "cpu");
        }
        let again = unhex(&answer["again_hex"]);
        let read: Vec<_> = read_tensors(&again).unwrap().iter().map(packed).collect();
        let expected: Vec<_> = list.iter().map(|(_, _, bytes)| bytes.clone()).collect();
        assert_eq!(read, expected);
    }
}

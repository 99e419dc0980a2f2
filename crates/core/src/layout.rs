//! Shape, element type and size of the objects a worker stores.
//!
//! Owns the byte size of one object. Must not know where
//! objects live or how they are named on the wire.

use std::str::FromStr;

use thiserror::Error;

use crate::dtype::Dtype;

impl FromStr for Dtype {
    type Err = LayoutError;

    /// Reads the element type of objects by its torch name or alias, without the `torch.` prefix.
    fn from_str(text: &str) -> Result<Self, LayoutError> {
        let known = Self::from_name_or_alias(text).filter(|dtype| dtype.is_storable());
        known.ok_or_else(|| LayoutError::UnknownDtype(text.to_owned()))
    }
}

/// A layout that cannot describe an object.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// The element type is not one of torch's, or none that objects may be of.
    #[error("unknown dtype `{0}`")]
    UnknownDtype(String),
    /// A dimension was zero.
    #[error("dimension `{0}` of the object is zero")]
    ZeroDimension(&'static str),
    /// The object would not fit the address space of a pool.
    #[error("object of shape `{0:?}` is larger than `{max}` bytes", max = ObjectLayout::MAX_BYTES)]
    TooLarge(Vec<u64>),
}

/// Geometry of an engine-driven registration (`spec/mp-protocol.md`, `RegisterEngineDrivenContextPayload`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineGeometry {
    /// Layers of the model part held by one worker.
    pub layers: u64,
    /// Token slots of one chunk.
    pub slots: u64,
    /// Elements per token and layer: heads times head size.
    pub hidden: u64,
    /// Whether keys and values share one latent plane.
    pub mla: bool,
}

/// Shape, element type and exact size of one stored object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectLayout {
    shape: Vec<u64>,
    dtype: Dtype,
    bytes: u64,
    fingerprint: u64,
}

/// Where the number of layers is in a shape, counted from its end: `[.., layers, slots, hidden]`.
const LAYERS_FROM_END: usize = 3;

/// What every fingerprint begins with; a new way to describe layouts takes another one.
const FINGERPRINT_DOMAIN: &str = "larder layout 1";

impl ObjectLayout {
    /// Largest object accepted, in bytes. A chunk beyond this is a mistake in the registration.
    pub const MAX_BYTES: u64 = 1 << 40;

    /// Layout of an engine-driven object: `[2, layers, slots, hidden]`, or `[layers, slots, hidden]` for
    /// MLA (`spec/transfer-modes.md 1`).
    ///
    /// # Errors
    /// [`LayoutError::ZeroDimension`] and [`LayoutError::TooLarge`].
    pub fn engine_driven(geometry: EngineGeometry, dtype: Dtype) -> Result<Self, LayoutError> {
        let EngineGeometry { layers, slots, hidden, mla } = geometry;
        for (name, value) in [("layers", layers), ("slots", slots), ("hidden", hidden)] {
            if value == 0 {
                return Err(LayoutError::ZeroDimension(name));
            }
        }
        let shape = if mla { vec![layers, slots, hidden] } else { vec![2, layers, slots, hidden] };
        Self::contiguous(shape, dtype)
    }

    /// Layout of a C-contiguous tensor of any shape.
    ///
    /// # Errors
    /// [`LayoutError::ZeroDimension`] and [`LayoutError::TooLarge`].
    pub fn contiguous(shape: Vec<u64>, dtype: Dtype) -> Result<Self, LayoutError> {
        if shape.contains(&0) {
            return Err(LayoutError::ZeroDimension("shape"));
        }
        let bytes = shape
            .iter()
            .try_fold(dtype.item_bytes(), |bytes, dimension| bytes.checked_mul(*dimension))
            .filter(|bytes| *bytes <= Self::MAX_BYTES);
        match bytes {
            Some(bytes) => {
                let fingerprint = fingerprint(&shape, dtype);
                Ok(Self { shape, dtype, bytes, fingerprint })
            }
            None => Err(LayoutError::TooLarge(shape)),
        }
    }

    /// Dimensions, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whether the workers of one engine may have both: pipeline stages hold different numbers of layers, all
    /// else is the engine's.
    #[must_use]
    pub fn is_stage_of(&self, other: &Self) -> bool {
        let layers = self.shape.len().checked_sub(LAYERS_FROM_END);
        let same = |(index, (mine, theirs)): (usize, (&u64, &u64))| mine == theirs || Some(index) == layers;
        self.dtype == other.dtype
            && self.shape.len() == other.shape.len()
            && self.shape.iter().zip(&other.shape).enumerate().all(same)
    }

    /// Exact size in bytes, not rounded to any alignment.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Tells this layout from others wherever objects outlive the server; never 0, and the same in every
    /// version: the first 8 bytes, in little endian, of the BLAKE3 hash of `larder layout 1`, the type's name
    /// and the dimensions in decimal, joined by single spaces.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

fn fingerprint(shape: &[u64], dtype: Dtype) -> u64 {
    let mut text = format!("{FINGERPRINT_DOMAIN} {dtype}");
    for dimension in shape {
        text.push(' ');
        text.push_str(&dimension.to_string());
    }
    let hash = blake3::hash(text.as_bytes());
    let head = hash.as_bytes().first_chunk().expect("a BLAKE3 hash has 32 bytes");
    u64::from_le_bytes(*head).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(mla: bool) -> EngineGeometry {
        EngineGeometry { layers: 3, slots: 16, hidden: 24, mla }
    }

    #[test]
    fn split_and_latent_objects_have_the_peers_shape() {
        let split = ObjectLayout::engine_driven(geometry(false), Dtype::Bfloat16).unwrap();
        assert_eq!(split.shape(), [2, 3, 16, 24]);
        assert_eq!(split.bytes(), 2 * 3 * 16 * 24 * 2);
        // The slot length seen on the peer for this very registration, spec/transfer-modes.md 2.3.
        let latent = ObjectLayout::engine_driven(geometry(true), Dtype::Uint8).unwrap();
        assert_eq!(latent.shape(), [3, 16, 24]);
        assert_eq!(latent.bytes(), 1152);
    }

    #[test]
    fn names_and_aliases_resolve_to_one_type() {
        for dtype in Dtype::ALL.iter().filter(|dtype| dtype.is_storable()) {
            assert_eq!(dtype.name().parse(), Ok(*dtype));
        }
        assert_eq!(Dtype::ALL.iter().filter(|dtype| dtype.is_storable()).count(), 28);
        for (alias, name) in
            [("half", "float16"), ("float", "float32"), ("double", "float64"), ("long", "int64")]
        {
            assert_eq!(alias.parse::<Dtype>().unwrap().name(), name);
        }
        assert_eq!(Dtype::Float32.item_bytes(), 4);
        assert_eq!("torch.half".parse::<Dtype>(), Err(LayoutError::UnknownDtype("torch.half".into())));
        assert!(["", "bit", "int4", "uint4", "bits4x2"].iter().all(|name| name.parse::<Dtype>().is_err()));
    }

    #[test]
    fn stages_of_one_engine_differ_in_their_layers_alone() {
        let layout = |geometry, dtype| ObjectLayout::engine_driven(geometry, dtype).unwrap();
        for mla in [false, true] {
            let stage = layout(geometry(mla), Dtype::Bfloat16);
            assert!(
                stage.is_stage_of(&layout(EngineGeometry { layers: 4, ..geometry(mla) }, Dtype::Bfloat16))
            );
            assert!(!stage.is_stage_of(&layout(geometry(mla), Dtype::Uint8)));
            assert!(!stage.is_stage_of(&layout(geometry(!mla), Dtype::Bfloat16)));
            for other in
                [EngineGeometry { slots: 8, ..geometry(mla) }, EngineGeometry { hidden: 48, ..geometry(mla) }]
            {
                assert!(!stage.is_stage_of(&layout(other, Dtype::Bfloat16)));
            }
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let huge = EngineGeometry { layers: u64::MAX, slots: 16, hidden: 24, mla: false };
        assert!(matches!(ObjectLayout::engine_driven(huge, Dtype::Bfloat16), Err(LayoutError::TooLarge(_))));
        let empty = EngineGeometry { slots: 0, ..geometry(false) };
        assert_eq!(
            ObjectLayout::engine_driven(empty, Dtype::Bfloat16),
            Err(LayoutError::ZeroDimension("slots"))
        );
    }

    #[test]
    fn fingerprints_are_those_of_every_version() {
        let layout = |shape: &[u64], dtype: &str| {
            ObjectLayout::contiguous(shape.to_vec(), dtype.parse().unwrap()).unwrap().fingerprint()
        };
        // Made with the `blake3` package of Python from the text that the method describes.
        assert_eq!(layout(&[2, 3, 16, 24], "bfloat16"), 0xa879_1dc3_9b3e_5b5b);
        assert_eq!(layout(&[1, 16, 256], "uint8"), 0x1375_a449_39e0_600a);
        assert_eq!(layout(&[1], "half"), layout(&[1], "float16"));
        let alike = [layout(&[2, 32], "uint8"), layout(&[232], "uint8"), layout(&[32, 2], "uint8")];
        assert!(alike[0] != alike[1] && alike[1] != alike[2] && alike[0] != alike[2]);
    }
}

//! Element types of tensors, by their torch names.

use std::fmt;

macro_rules! dtypes {
    ($($variant:ident, $name:literal, $size:literal;)*) => {
        /// A torch element type. The names are those the peer accepts in descriptors
        /// (`spec/vectors/ipc_descriptors.json`); the only list of them, for the wire and for objects.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Dtype {
            $(#[doc = concat!("`", $name, "`.")] $variant,)*
        }

        impl Dtype {
            /// Every element type.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The torch name, without `torch.`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Bytes per element. Types narrower than a byte take one each, as in torch.
            #[must_use]
            pub const fn item_bytes(self) -> u64 {
                match self {
                    $(Self::$variant => $size,)*
                }
            }

            /// The type with exactly this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

dtypes! {
    Bfloat16, "bfloat16", 2;
    Bits16, "bits16", 2;
    Bits1x8, "bits1x8", 1;
    Bits2x4, "bits2x4", 1;
    Bits4x2, "bits4x2", 1;
    Bits8, "bits8", 1;
    Bool, "bool", 1;
    Complex128, "complex128", 16;
    Complex32, "complex32", 4;
    Complex64, "complex64", 8;
    Float16, "float16", 2;
    Float32, "float32", 4;
    Float4E2m1fnX2, "float4_e2m1fn_x2", 1;
    Float64, "float64", 8;
    Float8E4m3fn, "float8_e4m3fn", 1;
    Float8E4m3fnuz, "float8_e4m3fnuz", 1;
    Float8E5m2, "float8_e5m2", 1;
    Float8E5m2fnuz, "float8_e5m2fnuz", 1;
    Float8E8m0fnu, "float8_e8m0fnu", 1;
    Int1, "int1", 1;
    Int16, "int16", 2;
    Int2, "int2", 1;
    Int3, "int3", 1;
    Int32, "int32", 4;
    Int4, "int4", 1;
    Int5, "int5", 1;
    Int6, "int6", 1;
    Int64, "int64", 8;
    Int7, "int7", 1;
    Int8, "int8", 1;
    Qint32, "qint32", 4;
    Qint8, "qint8", 1;
    Quint2x4, "quint2x4", 1;
    Quint4x2, "quint4x2", 1;
    Quint8, "quint8", 1;
    Uint1, "uint1", 1;
    Uint16, "uint16", 2;
    Uint2, "uint2", 1;
    Uint3, "uint3", 1;
    Uint32, "uint32", 4;
    Uint4, "uint4", 1;
    Uint5, "uint5", 1;
    Uint6, "uint6", 1;
    Uint64, "uint64", 8;
    Uint7, "uint7", 1;
    Uint8, "uint8", 1;
}

impl Dtype {
    /// The type with this name or one of torch's second names, such as `half`, as an engine may give it when
    /// it registers.
    pub(crate) fn from_name_or_alias(name: &str) -> Option<Self> {
        Some(match name {
            "half" => Self::Float16,
            "float" => Self::Float32,
            "double" => Self::Float64,
            "chalf" => Self::Complex32,
            "cfloat" => Self::Complex64,
            "cdouble" => Self::Complex128,
            "short" => Self::Int16,
            "int" => Self::Int32,
            "long" => Self::Int64,
            "bit" => Self::Uint1,
            _ => return Self::from_name(name),
        })
    }

    /// Whether objects may be of this type. Torch knows those that are not by their names alone: no engine
    /// computes with them, and whether a byte of its KV would be one element or several is said nowhere. A
    /// registration with one is refused, rather than stored with a size that is a guess.
    #[must_use]
    pub fn is_storable(self) -> bool {
        !matches!(
            self,
            Self::Bits1x8
                | Self::Bits2x4
                | Self::Bits4x2
                | Self::Quint2x4
                | Self::Int1
                | Self::Int2
                | Self::Int3
                | Self::Int4
                | Self::Int5
                | Self::Int6
                | Self::Int7
                | Self::Uint1
                | Self::Uint2
                | Self::Uint3
                | Self::Uint4
                | Self::Uint5
                | Self::Uint6
                | Self::Uint7
        )
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

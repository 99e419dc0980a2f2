//! What an engine says about its tensors when it registers them (`spec/wire.md 3.2`).

use crate::device::TensorDescriptor;
use crate::error::{ValueError, invalid};
use crate::limits;
use crate::msgpack::{Reader, Writer, required, set};
use crate::text::quoted;

/// The engine a client speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineType {
    /// vLLM.
    Vllm,
    /// Atom.
    Atom,
    /// SGLang.
    Sglang,
    /// TensorRT-LLM.
    Trtllm,
    /// Tests.
    Mock,
}

impl EngineType {
    /// Every engine.
    pub const ALL: [Self; 5] = [Self::Vllm, Self::Atom, Self::Sglang, Self::Trtllm, Self::Mock];

    /// Name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Atom => "atom",
            Self::Sglang => "sglang",
            Self::Trtllm => "trtllm",
            Self::Mock => "mock",
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ValueError> {
        read_choice(reader, "engine type", &Self::ALL, Self::name)
    }
}

/// How the dimensions of a KV tensor are ordered, as the engine names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvLayout {
    /// Token before head.
    Nhd,
    /// Head before token.
    Hnd,
    /// Block, layer, head, token, content.
    Blhnc,
    /// Block, layer, token, head, content.
    Blnhc,
}

impl KvLayout {
    /// Every layout.
    pub const ALL: [Self; 4] = [Self::Nhd, Self::Hnd, Self::Blhnc, Self::Blnhc];

    /// Name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nhd => "NHD",
            Self::Hnd => "HND",
            Self::Blhnc => "BLHNC",
            Self::Blnhc => "BLNHC",
        }
    }
}

/// How keys and values are split over the list of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvListLayout {
    /// All key tensors, then all value tensors.
    KeysThenValues,
    /// One tensor per layer.
    Unified,
}

impl KvListLayout {
    /// Every layout.
    pub const ALL: [Self; 2] = [Self::KeysThenValues, Self::Unified];

    /// Name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KeysThenValues => "k_v",
            Self::Unified => "unified",
        }
    }
}

fn read_choice<T: Copy>(
    reader: &mut Reader<'_>,
    what: &str,
    choices: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<T, ValueError> {
    let text = reader.str()?;
    choices
        .iter()
        .copied()
        .find(|choice| name(*choice) == text)
        .ok_or_else(|| invalid(format!("unknown {what} `{}`", quoted(text))))
}

/// Facts about the tensors that their shapes do not tell. All optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayoutHints {
    /// Order of the dimensions.
    pub kv_layout: Option<KvLayout>,
    /// Heads per layer.
    pub num_kv_heads: Option<u32>,
    /// Tokens per block.
    pub tokens_per_block: Option<u32>,
    /// Split over the list.
    pub kv_list_layout: Option<KvListLayout>,
    /// Elements per head.
    pub head_dim: Option<u32>,
}

impl LayoutHints {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ValueError> {
        let mut hints = Self::default();
        reader.fields(|name, value| match name {
            "kv_layout" => {
                set(&mut hints.kv_layout, read_choice(value, "KV layout", &KvLayout::ALL, KvLayout::name))
            }
            "num_kv_heads" => set(&mut hints.num_kv_heads, value.int_as()),
            "tokens_per_block" => set(&mut hints.tokens_per_block, value.int_as()),
            "kv_list_layout" => set(
                &mut hints.kv_list_layout,
                read_choice(value, "KV list layout", &KvListLayout::ALL, KvListLayout::name),
            ),
            "head_dim" => set(&mut hints.head_dim, value.int_as()),
            _ => Ok(false),
        })?;
        Ok(hints)
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        let texts = [
            ("kv_layout", self.kv_layout.map(KvLayout::name)),
            ("kv_list_layout", self.kv_list_layout.map(KvListLayout::name)),
        ];
        let numbers = [
            ("num_kv_heads", self.num_kv_heads),
            ("tokens_per_block", self.tokens_per_block),
            ("head_dim", self.head_dim),
        ];
        let present = texts.iter().filter(|(_, value)| value.is_some()).count()
            + numbers.iter().filter(|(_, value)| value.is_some()).count();
        writer.map(present);
        for (name, text) in texts {
            if let Some(text) = text {
                writer.field(name, |w| w.str(text));
            }
        }
        for (name, number) in numbers {
            if let Some(number) = number {
                writer.field(name, |w| w.uint(u64::from(number)));
            }
        }
    }
}

/// One group of layers that the engine allocates blocks for together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineGroup {
    /// The engine's number of the group.
    pub engine_group_id: u32,
    /// Layers of the group, by index.
    pub layer_indices: Vec<u32>,
    /// Tokens per block, 0 for unknown.
    pub tokens_per_block: u32,
    /// Attention window in tokens; the peer's -1 and every other value below 1 mean none.
    pub sliding_window_tokens: i64,
    /// Groups with different tags are stored as different objects.
    pub extra_object_group_tag: i64,
    /// Whether the layers carry recurrent state instead of KV.
    pub recurrent_state: bool,
}

impl EngineGroup {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ValueError> {
        let mut engine_group_id = None;
        let mut layer_indices = None;
        let mut tokens_per_block = None;
        let mut sliding_window_tokens = None;
        let mut extra_object_group_tag = None;
        let mut recurrent_state = None;
        reader.fields(|name, value| match name {
            "engine_group_id" => set(&mut engine_group_id, value.int_as()),
            "layer_indices" => set(&mut layer_indices, value.list(limits::GROUP_LAYERS_MAX, Reader::int_as)),
            "tokens_per_block" => set(&mut tokens_per_block, value.int_as()),
            "sw_size_tokens" => set(&mut sliding_window_tokens, value.int_as()),
            "extra_object_group_tag" => set(&mut extra_object_group_tag, value.int_as()),
            "recurrent_state" => set(&mut recurrent_state, value.bool()),
            _ => Ok(false),
        })?;
        Ok(Self {
            engine_group_id: required("engine_group_id", engine_group_id)?,
            layer_indices: layer_indices.unwrap_or_default(),
            tokens_per_block: tokens_per_block.unwrap_or_default(),
            sliding_window_tokens: sliding_window_tokens.unwrap_or(-1),
            extra_object_group_tag: extra_object_group_tag.unwrap_or_default(),
            recurrent_state: recurrent_state.unwrap_or_default(),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(6);
        writer.field("engine_group_id", |w| w.uint(u64::from(self.engine_group_id)));
        writer.field("layer_indices", |w| w.list(&self.layer_indices, |w, index| w.uint(u64::from(*index))));
        writer.field("tokens_per_block", |w| w.uint(u64::from(self.tokens_per_block)));
        writer.field("sw_size_tokens", |w| w.int(self.sliding_window_tokens));
        writer.field("extra_object_group_tag", |w| w.int(self.extra_object_group_tag));
        writer.field("recurrent_state", |w| w.bool(self.recurrent_state));
    }
}

/// The tensors of one engine worker.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRegistration<'a> {
    /// The engine worker.
    pub instance_id: i64,
    /// The tensors, in layer order.
    pub tensors: Vec<TensorDescriptor<'a>>,
    /// Model name.
    pub model_name: &'a str,
    /// Number of workers that each hold a part of the cache.
    pub world_size: u32,
    /// The engine.
    pub engine_type: EngineType,
    /// What the shapes do not tell.
    pub layout_hints: LayoutHints,
    /// Groups of layers; empty if all are alike.
    pub engine_groups: Vec<EngineGroup>,
}

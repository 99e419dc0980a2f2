//! Responses: the result of an operation, both ways.

use std::borrow::Cow;

use crate::blend::UnifiedLookupResult;
use crate::engine_driven::{PoolLocation, PrepareRetrieveResult, PrepareStoreResult};
use crate::error::{Fault, ValueError, WireError};
use crate::events::KvEventBatch;
use crate::limits;
use crate::module_call::ModuleCallResult;
use crate::msgpack::{Reader, Writer};
use crate::operation::{Operation, ResultKind};
use crate::p2p::TransferAddress;

/// The result of an operation (`spec/wire.md 2`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// No result: the response has two frames. Also the message that ends a stream.
    None,
    /// A yes or no.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text.
    Str(&'a str),
    /// Names.
    StrList(Vec<&'a str>),
    /// Numbers.
    IntList(Cow<'a, [i64]>),
    /// A device transfer was submitted, or not.
    Transfer {
        /// What to wait for before touching the blocks; empty for nothing.
        event_handle: &'a [u8],
        /// Whether it will happen.
        ok: bool,
    },
    /// A version, and whether it can be spoken.
    Handshake {
        /// The server's version.
        version: i64,
        /// Whether the client's is supported.
        ok: bool,
    },
    /// Where the pool is.
    Pool(PoolLocation<'a>),
    /// Slots to write.
    PrepareStore(PrepareStoreResult<'a>),
    /// Slots to read, or the data.
    PrepareRetrieve(PrepareRetrieveResult<'a>),
    /// One message of a stream of events.
    KvEvents(KvEventBatch<'a>),
    /// What a blend lookup found.
    UnifiedLookup(UnifiedLookupResult<'a>),
    /// Where objects are.
    Addresses(Vec<TransferAddress>),
    /// What an extension answered.
    ModuleCall(ModuleCallResult<'a>),
}

impl<'a> Response<'a> {
    /// The answer to `noop`.
    pub const OK: Self = Self::Str("OK");

    /// The result frame; none for [`Response::None`].
    ///
    /// # Errors
    /// [`WireError::TooLarge`].
    pub fn encode(&self) -> Result<Option<Vec<u8>>, WireError> {
        match self {
            Self::None => Ok(None),
            _ => Writer::document(|writer| self.write(writer)).map(Some),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::None => {}
            Self::Bool(value) => writer.bool(*value),
            Self::Int(value) => writer.int(*value),
            Self::Str(text) => writer.str(text),
            Self::StrList(texts) => writer.list(texts, |w, text| w.str(text)),
            Self::IntList(values) => writer.list(values, |w, value| w.int(*value)),
            Self::Transfer { event_handle, ok } => {
                writer.array(2);
                writer.bin(event_handle);
                writer.bool(*ok);
            }
            Self::Handshake { version, ok } => {
                writer.array(2);
                writer.int(*version);
                writer.bool(*ok);
            }
            Self::Pool(it) => it.write(writer),
            Self::PrepareStore(it) => it.write(writer),
            Self::PrepareRetrieve(it) => it.write(writer),
            Self::KvEvents(it) => it.write(writer),
            Self::UnifiedLookup(it) => it.write(writer),
            Self::Addresses(addresses) => writer.list(addresses, |w, address| address.write(w)),
            Self::ModuleCall(it) => it.write(writer),
        }
    }

    /// Reads the result of `operation` as a client does; `body` is the third frame if there is one.
    ///
    /// # Errors
    /// [`WireError::Result`].
    pub fn decode(operation: Operation, body: Option<&'a [u8]>) -> Result<Self, WireError> {
        let presence = |expected, got| {
            let source = Fault::Presence { expected, got }.here();
            Err(WireError::Result { operation, source })
        };
        match (operation.result_kind(), body) {
            (ResultKind::None, None) | (ResultKind::Optional | ResultKind::Stream, None) => Ok(Self::None),
            (ResultKind::None, Some(_)) => presence("no result", "one"),
            (ResultKind::Body, None) => presence("a result", "none"),
            (_, Some(body)) => Reader::document(body, |reader| Self::read(operation, reader))
                .map_err(|source| WireError::Result { operation, source }),
        }
    }

    fn read(operation: Operation, reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        Ok(match operation {
            Operation::StoreQ | Operation::Store | Operation::Retrieve | Operation::CbRetrievePreComputed => {
                pair(reader)?;
                Self::Transfer {
                    event_handle: reader.bin().map_err(|error| error.at_index(0))?,
                    ok: reader.bool().map_err(|error| error.at_index(1))?,
                }
            }
            Operation::CbProtocolHandshake => {
                pair(reader)?;
                Self::Handshake {
                    version: reader.int_as().map_err(|error| error.at_index(0))?,
                    ok: reader.bool().map_err(|error| error.at_index(1))?,
                }
            }
            Operation::QueryPrefetchStatus
            | Operation::WaitPrefetchStatus
            | Operation::GetChunkSize
            | Operation::P2pLookupAndLock => Self::Int(reader.int_as()?),
            Operation::CommitStore | Operation::CommitRetrieve | Operation::Ping => {
                Self::Bool(reader.bool()?)
            }
            Operation::Noop => Self::Str(reader.str()?),
            Operation::GetExperimental => Self::StrList(reader.list(limits::FEATURES_MAX, Reader::str)?),
            Operation::CbReorderPlan => {
                Self::IntList(Cow::Owned(reader.list(limits::SEGMENTS_MAX, Reader::int_as)?))
            }
            Operation::RegisterKvCacheEngineDrivenContext => Self::Pool(PoolLocation::read(reader)?),
            Operation::PrepareStore => Self::PrepareStore(PrepareStoreResult::read(reader)?),
            Operation::PrepareRetrieve => Self::PrepareRetrieve(PrepareRetrieveResult::read(reader)?),
            Operation::SubscribeKvEvents => Self::KvEvents(KvEventBatch::read(reader)?),
            Operation::CbUnifiedLookup => Self::UnifiedLookup(UnifiedLookupResult::read(reader)?),
            Operation::P2pQueryLookupResults => {
                Self::Addresses(reader.list(limits::OBJECTS_MAX, TransferAddress::read)?)
            }
            Operation::ServerModuleCall => Self::ModuleCall(ModuleCallResult::read(reader)?),
            Operation::RegisterKvCache
            | Operation::UnregisterKvCache
            | Operation::RegisterQCache
            | Operation::UnregisterQCache
            | Operation::Lookup
            | Operation::FreeLookupLocks
            | Operation::EndSession
            | Operation::UnregisterKvCacheEngineDrivenContext
            | Operation::Clear
            | Operation::ReportBlockAllocation
            | Operation::CbRegisterRope
            | Operation::CbUnregisterRope
            | Operation::P2pUnlockObjects => Self::None,
        })
    }
}

/// The head of a pair.
fn pair(reader: &mut Reader<'_>) -> Result<(), ValueError> {
    match reader.array()? {
        2 => Ok(()),
        got => Err(Fault::WrongLength { expected: 2, got }.here()),
    }
}

impl Operation {
    /// The answer of this operation's own type that means "failed" to an unmodified client, if its type has
    /// one.
    ///
    /// Operations without one are refused with the error reply ([`crate::reply`]).
    #[must_use]
    pub fn negative_result(self) -> Option<Response<'static>> {
        match self {
            Self::StoreQ | Self::Store | Self::Retrieve | Self::CbRetrievePreComputed => {
                Some(Response::Transfer { event_handle: &[], ok: false })
            }
            Self::CommitStore | Self::CommitRetrieve => Some(Response::Bool(false)),
            Self::QueryPrefetchStatus | Self::WaitPrefetchStatus => Some(Response::Int(0)),
            Self::PrepareRetrieve => Some(Response::PrepareRetrieve(PrepareRetrieveResult::miss())),
            Self::CbUnifiedLookup => Some(Response::UnifiedLookup(UnifiedLookupResult::default())),
            Self::ServerModuleCall => Some(Response::ModuleCall(ModuleCallResult {
                success: false,
                payload: &[],
                error: "call failed",
            })),
            _ => None,
        }
    }
}

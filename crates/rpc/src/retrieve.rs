//! Handing chunks out: at once where their bytes are trusted, after a look at them where they are not
//! (`--checksum full`).

use larder_core::layout::ObjectLayout;
use larder_wire::engine_driven::{PrepareRetrieveResult, Slot};
use larder_wire::{Operation, Response};

use super::answer::Answer;
use super::outcome::{Job, Outcome};
use super::payload;
use larder_core::modes::ChecksumMode;
use larder_engine::{ConnectionId, OwnedKey, PromptKey, Requests, RetrievePlan};

/// Answers a retrieve with the chunks of `plan`: by where they lie if the client `shares_memory`, else by
/// value.
pub(super) fn hand_out(
    engine: &Requests,
    key: &PromptKey<'_>,
    instance_id: i64,
    connection: ConnectionId,
    plan: RetrievePlan,
    shares_memory: bool,
) -> Outcome {
    let verifies = engine.checksum_mode() == ChecksumMode::Full;
    if shares_memory && !verifies {
        return Outcome::Now(by_place(&plan));
    }
    let (engine, key) = (engine.clone(), OwnedKey::from(key));
    let work = Box::new(move || {
        if verifies && !engine.verify_retrieve(&plan) {
            let failed = engine.fail_retrieve(&key.borrow(), instance_id, connection, &plan);
            if let Err(error) = failed {
                tracing::warn!("{} of instance {instance_id}: {error}", Operation::PrepareRetrieve);
            }
            return Answer::of(&Response::PrepareRetrieve(PrepareRetrieveResult::miss()));
        }
        if shares_memory {
            by_place(&plan)
        } else {
            payload::retrieve(&engine, &key.borrow(), instance_id, connection, &plan)
        }
    });
    Outcome::Job(Job { work, answers_with_chunks: !shares_memory })
}

fn by_place(plan: &RetrievePlan) -> Answer {
    let slots = wire_slots(&plan.slots, &plan.layout);
    Answer::of(&Response::PrepareRetrieve(PrepareRetrieveResult::slots(slots)))
}

/// Slots as clients are told them.
pub(super) fn wire_slots<'a>(slots: &[larder_engine::Slot], layout: &ObjectLayout) -> Vec<Slot<'a>> {
    let slot = |slot: &larder_engine::Slot| Slot {
        offset: slot.offset,
        length: layout.bytes(),
        shape: layout.shape().to_vec().into(),
        dtype: layout.dtype().name(),
    };
    slots.iter().map(slot).collect()
}

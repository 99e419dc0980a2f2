//! Which connections' later requests have to wait for an earlier one, and what they sent since.

use std::collections::VecDeque;

use hashbrown::HashMap;
use larder_zmtp::{Message, PeerId};

/// The connections that wait. What waits is charged to its connection's budget, which bounds it.
#[derive(Default)]
pub(super) struct Lanes {
    held: HashMap<PeerId, Lane>,
}

#[derive(Default)]
struct Lane {
    is_busy: bool,
    waiting: VecDeque<Message>,
}

impl Lanes {
    /// Keeps a message that has to wait; gives back one that has not.
    pub(super) fn pass(&mut self, peer: PeerId, message: Message) -> Option<Message> {
        match self.held.get_mut(&peer) {
            Some(lane) => {
                lane.waiting.push_back(message);
                None
            }
            None => Some(message),
        }
    }

    /// Has the connection's later requests wait until [`Lanes::release`].
    pub(super) fn hold(&mut self, peer: PeerId) {
        self.held.entry(peer).or_default().is_busy = true;
    }

    /// What the connection waited for is over. Its requests still wait until [`Lanes::next`] has given out
    /// the last.
    pub(super) fn release(&mut self, peer: PeerId) {
        if let Some(lane) = self.held.get_mut(&peer) {
            lane.is_busy = false;
        }
    }

    /// The next request of the connection, unless it has to wait or there is none.
    pub(super) fn next(&mut self, peer: PeerId) -> Option<Message> {
        let lane = self.held.get_mut(&peer).filter(|lane| !lane.is_busy)?;
        let next = lane.waiting.pop_front();
        if next.is_none() {
            self.held.remove(&peer);
        }
        next
    }

    /// Drops what a closed connection had sent.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.held.remove(&peer);
    }
}

//! Commands on their way to a plugin's task, numbered in the order in which they are taken, so that a sender
//! can wait for its own.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::sync::mpsc::Permit;

use crate::lifecycle::Event;
use crate::lock::lock;

/// Commands to one plugin that can wait to be taken.
const COMMANDS_MAX: usize = 16;

/// The sending end. The task stops its plugin when the last of them is gone.
#[derive(Clone, Debug)]
pub(crate) struct Commands {
    sender: mpsc::Sender<Event>,
    /// Commands sent so far.
    sent: Arc<Mutex<u64>>,
}

/// A sending end that does not keep the plugin.
#[derive(Debug)]
pub(crate) struct WeakCommands {
    sender: mpsc::WeakSender<Event>,
    sent: Arc<Mutex<u64>>,
}

impl Commands {
    /// A new line of commands and its end at the task.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (sender, taken) = mpsc::channel(COMMANDS_MAX);
        (Self { sender, sent: Arc::default() }, taken)
    }

    /// Sends once there is room; the command's number, the first being 1. `None` if the task has ended.
    pub(crate) async fn send(&self, event: Event) -> Option<u64> {
        Some(self.put(self.sender.reserve().await.ok()?, event))
    }

    /// Sends if there is room.
    pub(crate) fn try_send(&self, event: Event) -> Option<u64> {
        Some(self.put(self.sender.try_reserve().ok()?, event))
    }

    pub(crate) fn downgrade(&self) -> WeakCommands {
        WeakCommands { sender: self.sender.downgrade(), sent: Arc::clone(&self.sent) }
    }

    /// Under one lock, so that numbers and places in the line agree.
    fn put(&self, place: Permit<'_, Event>, event: Event) -> u64 {
        let mut sent = lock(&self.sent);
        *sent += 1;
        place.send(event);
        *sent
    }
}

impl WeakCommands {
    /// `None` once the plugin has been let go.
    pub(crate) fn upgrade(self) -> Option<Commands> {
        Some(Commands { sender: self.sender.upgrade()?, sent: self.sent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_are_places_in_the_line_whoever_sends() {
        let (commands, mut taken) = Commands::new();
        let senders: Vec<_> = (0..100)
            .map(|index| {
                let commands = commands.clone();
                let event = if index % 2 == 0 { Event::Stop } else { Event::Start };
                tokio::spawn(async move { (commands.send(event).await.unwrap(), event) })
            })
            .collect();
        let weak = commands.downgrade();
        drop(commands);
        let mut order = Vec::new();
        while let Some(event) = taken.recv().await {
            order.push(event);
        }
        for sender in senders {
            let (number, event) = sender.await.unwrap();
            assert_eq!(order[number as usize - 1], event);
        }
        assert_eq!(order.len(), 100);
        assert!(weak.upgrade().is_none());
    }

    #[tokio::test]
    async fn a_full_line_takes_no_more() {
        let (commands, taken) = Commands::new();
        let numbers: Vec<_> = (0..=COMMANDS_MAX).map(|_| commands.try_send(Event::Stop)).collect();
        assert_eq!((numbers[0], numbers[COMMANDS_MAX - 1], numbers[COMMANDS_MAX]), (Some(1), Some(16), None));
        drop(taken);
        assert_eq!(commands.send(Event::Stop).await, None);
    }
}

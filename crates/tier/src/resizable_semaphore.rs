//! A semaphore whose number of permits may change at any time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of permits. First come, first served.
#[derive(Debug)]
pub(super) struct ResizableSemaphore {
    free: Arc<Semaphore>,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    max: usize,
    /// Permits that were taken when the number fell, and are to vanish when they come back.
    owed: usize,
}

/// One permit; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    inner: Option<OwnedSemaphorePermit>,
    semaphore: Arc<ResizableSemaphore>,
}

impl ResizableSemaphore {
    /// `max` permits, at least one.
    pub(super) fn new(max: usize) -> Arc<Self> {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { free: Arc::new(Semaphore::new(max)), count: Mutex::new(Count { max, owed: 0 }) })
    }

    /// Takes a permit when there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Permit {
        // An error would mean a closed semaphore, and nobody closes it; without a permit there is no bound,
        // but no hang either.
        let inner = Arc::clone(&self.free).acquire_owned().await.ok();
        Permit { inner, semaphore: Arc::clone(self) }
    }

    /// Changes their number. Who has a permit keeps it.
    pub(super) fn resize(&self, max: usize) {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        let mut count = self.count();
        if max > count.max {
            let more = max - count.max;
            let kept = more.min(count.owed);
            count.owed -= kept;
            self.free.add_permits(more - kept);
        } else {
            let fewer = count.max - max;
            count.owed += fewer - self.free.forget_permits(fewer);
        }
        count.max = max;
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut count = self.semaphore.count();
        if let Some(permit) = self.inner.take()
            && count.owed > 0
        {
            count.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn the_number_changes_while_permits_are_taken() {
        let semaphore = ResizableSemaphore::new(2);
        let mut taken = vec![semaphore.take().await, semaphore.take().await];
        semaphore.resize(1);
        taken.pop();
        assert_eq!(semaphore.free.available_permits(), 0, "the permit that came back is gone");
        taken.pop();
        assert_eq!(semaphore.free.available_permits(), 1);
        semaphore.resize(3);
        assert_eq!(semaphore.free.available_permits(), 3);
        let taken = [semaphore.take().await, semaphore.take().await, semaphore.take().await];
        semaphore.resize(0);
        semaphore.resize(2);
        drop(taken);
        assert_eq!(semaphore.free.available_permits(), 2, "one more before the permits came back");
    }

    fn take_now(semaphore: &Arc<ResizableSemaphore>) -> Option<Permit> {
        match pin!(semaphore.take()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    proptest! {
        #[test]
        fn there_are_as_many_permits_as_was_said_last(steps in proptest::collection::vec(0_usize..9, 1..60)) {
            let semaphore = ResizableSemaphore::new(3);
            let (mut max, mut taken) = (3, Vec::new());
            for step in steps {
                match step {
                    0..4 => {
                        semaphore.resize(step);
                        max = step.max(1);
                    }
                    4..7 => {
                        let permit = take_now(&semaphore);
                        prop_assert_eq!(permit.is_some(), taken.len() < max);
                        taken.extend(permit);
                    }
                    _ => drop(taken.pop()),
                }
                prop_assert_eq!(semaphore.free.available_permits(), max.saturating_sub(taken.len()), "who has one keeps it");
            }
        }
    }
}

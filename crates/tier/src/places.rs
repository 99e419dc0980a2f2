//! How many prefetches may be under way, which may change at any time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of places. First come, first served.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    max: usize,
    /// Places that were taken when the number fell, and are to vanish when they are left.
    owed: usize,
}

/// One place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl Places {
    /// `max` places, at least one.
    pub(super) fn new(max: usize) -> Arc<Self> {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { free: Arc::new(Semaphore::new(max)), count: Mutex::new(Count { max, owed: 0 }) })
    }

    /// Takes a place when there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        // An error would mean a closed semaphore, and nobody closes it; without a permit there is no bound,
        // but no hang either.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Place { permit, places: Arc::clone(self) }
    }

    /// Changes their number. Who has a place keeps it.
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

impl Drop for Place {
    fn drop(&mut self) {
        let mut count = self.places.count();
        if let Some(permit) = self.permit.take()
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
    async fn the_number_changes_while_places_are_taken() {
        let places = Places::new(2);
        let mut taken = vec![places.take().await, places.take().await];
        places.resize(1);
        taken.pop();
        assert_eq!(places.free.available_permits(), 0, "the place that was left is gone");
        taken.pop();
        assert_eq!(places.free.available_permits(), 1);
        places.resize(3);
        assert_eq!(places.free.available_permits(), 3);
        let taken = [places.take().await, places.take().await, places.take().await];
        places.resize(0);
        places.resize(2);
        drop(taken);
        assert_eq!(places.free.available_permits(), 2, "one more before the places were left");
    }

    fn take_now(places: &Arc<Places>) -> Option<Place> {
        match pin!(places.take()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    proptest! {
        #[test]
        fn there_are_as_many_places_as_was_said_last(steps in proptest::collection::vec(0_usize..9, 1..60)) {
            let places = Places::new(3);
            let (mut max, mut taken) = (3, Vec::new());
            for step in steps {
                match step {
                    0..4 => {
                        places.resize(step);
                        max = step.max(1);
                    }
                    4..7 => {
                        let place = take_now(&places);
                        prop_assert_eq!(place.is_some(), taken.len() < max);
                        taken.extend(place);
                    }
                    _ => drop(taken.pop()),
                }
                prop_assert_eq!(places.free.available_permits(), max.saturating_sub(taken.len()), "who has one keeps it");
            }
        }
    }
}

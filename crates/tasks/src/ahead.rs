//! Data of a batch, loaded while the batch before it is computed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// The data of batches. While one is computed, another thread loads the next.
pub(crate) struct Ahead<B> {
    /// The batches that will be needed later, in order.
    expected: VecDeque<Range<usize>>,
    /// The batch that is being loaded, and the channel on which it will arrive.
    upcoming: Option<(Range<usize>, Receiver<B>)>,
}

impl<B> Default for Ahead<B> {
    fn default() -> Self {
        Self { expected: VecDeque::new(), upcoming: None }
    }
}

impl<B: Send + 'static> Ahead<B> {
    /// Announces the batches that will be needed, in order.
    pub(crate) fn expect(&mut self, batches: &[Range<usize>]) {
        self.expected = batches.iter().cloned().collect();
        self.upcoming = None;
    }

    /// Returns the data of the items `range`, and begins to load those of the batch after it. `load` returns the work of loading
    /// the items of a range.
    pub(crate) fn take<L: FnOnce() -> B + Send + 'static>(
        &mut self,
        range: &Range<usize>,
        load: impl Fn(Range<usize>) -> L,
    ) -> B {
        let upcoming = self.upcoming.take().filter(|(expected, _)| expected == range);
        let arrived = upcoming.and_then(|(_, receiver)| receiver.recv().ok());
        let batch = arrived.unwrap_or_else(|| load(range.clone())());
        self.expected.pop_front_if(|expected| expected == range);
        if let Some(next) = self.expected.front().cloned() {
            let (sender, receiver) = sync_channel(1);
            let load = load(next.clone());
            let work = move || sender.send(load());
            // Without a thread, the batch is loaded when it is needed.
            let started = thread::Builder::new().spawn(work);
            self.upcoming = started.is_ok().then_some((next, receiver));
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_batch_is_loaded_once_whatever_was_announced() {
        let batches = [0..2, 2..4, 6..7];
        // Nothing, the batches that come, and others.
        for (announced, most) in [(&[][..], 3), (&batches, 3), (&batches[2..], 4)] {
            let loads = Arc::new(AtomicUsize::new(0));
            let load = |range: Range<usize>| {
                let loads = Arc::clone(&loads);
                move || {
                    loads.fetch_add(1, Ordering::Relaxed);
                    range.sum::<usize>()
                }
            };
            let mut ahead = Ahead::default();
            ahead.expect(announced);
            assert_eq!(batches.clone().map(|range| ahead.take(&range, load)), [1, 5, 6], "{announced:?}");
            drop(ahead);
            assert!(loads.load(Ordering::Relaxed) <= most);
        }
    }

    #[test]
    fn a_loader_that_stops_is_repeated_where_its_panic_is_seen() {
        let calls = Arc::new(AtomicUsize::new(0));
        let load = |range: Range<usize>| {
            let calls = Arc::clone(&calls);
            move || {
                let first = calls.fetch_add(1, Ordering::Relaxed) == 1;
                assert!(!first, "on purpose");
                range.start
            }
        };
        let mut ahead = Ahead::default();
        ahead.expect(&[0..1, 1..2]);
        assert_eq!([ahead.take(&(0..1), load), ahead.take(&(1..2), load)], [0, 1]);
    }
}

//! Jobs over threads, results in the order of the jobs.
//!
//! Each thread owns one worker: allocations that are reused from job to job. Threads have stacks
//! of their own length, since the code generator may recurse deeper than a caller's stack allows.
//! What a job yields must not depend on its worker's past, so results are the same on any number of
//! threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::Error;

/// Bytes of stack that a compiling thread has.
const STACK_LEN: usize = 16 << 20;

/// Runs `job` for every number below `count`. Of several errors, the one of the lowest number
/// is given.
pub(crate) fn map<W, T: Send>(
    parallel: bool,
    count: usize,
    new_worker: impl Fn() -> W + Sync,
    job: impl Fn(&mut W, usize) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let queue = Queue {
        next: AtomicUsize::new(0),
        first_failed: AtomicUsize::new(count),
    };
    let finished = Mutex::new(Vec::new());
    let run = || {
        let mut done = queue.work(new_worker(), &job);
        finished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append(&mut done);
    };
    match pool().filter(|_| parallel && count > 1) {
        Some(pool) => pool.scope(|scope| {
            for _ in 0..pool.current_num_threads().min(count) {
                scope.spawn(|_| run());
            }
        }),
        None => thread::scope(|scope| {
            thread::Builder::new()
                .name("selvedge-compile".to_owned())
                .stack_size(STACK_LEN)
                .spawn_scoped(scope, run)
                .map(drop)
                .map_err(Error::Thread)
        })?,
    }
    let mut finished = finished
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    finished.sort_unstable_by_key(|(index, _)| *index);
    finished.into_iter().map(|(_, result)| result).collect()
}

/// Jobs that are still to be done.
struct Queue {
    next: AtomicUsize,
    /// The lowest job that failed so far; later ones need not be begun.
    first_failed: AtomicUsize,
}

impl Queue {
    fn work<W, T>(
        &self,
        mut worker: W,
        job: impl Fn(&mut W, usize) -> Result<T, Error>,
    ) -> Vec<(usize, Result<T, Error>)> {
        let mut done = Vec::new();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.first_failed.load(Ordering::Relaxed) {
                return done;
            }
            let result = job(&mut worker, index);
            if result.is_err() {
                self.first_failed.fetch_min(index, Ordering::Relaxed);
            }
            done.push((index, result));
        }
    }
}

/// The threads, started at first use. `None` if the system gives none.
fn pool() -> Option<&'static ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    POOL.get_or_init(|| {
        ThreadPoolBuilder::new()
            .stack_size(STACK_LEN)
            .thread_name(|index| format!("selvedge-compile-{index}"))
            .build()
            .ok()
    })
    .as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        for parallel in [false, true] {
            let results = map(parallel, 1000, || (), |(), i| Ok(i * 3)).unwrap();
            assert_eq!(results, (0..1000).map(|i| i * 3).collect::<Vec<_>>());
            assert!(map(parallel, 0, || (), |(), i| Ok(i)).unwrap().is_empty());
        }
    }

    #[test]
    fn the_first_of_several_errors_is_given() {
        for parallel in [false, true] {
            let result = map(
                parallel,
                1000,
                || (),
                |(), i| {
                    if i % 7 == 6 {
                        Err(Error::invalid("bad", i as u64))
                    } else {
                        Ok(())
                    }
                },
            );
            assert!(matches!(result, Err(Error::Invalid { offset: 6, .. })));
        }
    }

    #[test]
    fn workers_are_kept_between_jobs() {
        let sum = AtomicUsize::new(0);
        let worker = || {
            sum.fetch_add(1, Ordering::Relaxed);
        };
        map(false, 100, worker, |(), _| Ok(())).unwrap();
        assert_eq!(sum.into_inner(), 1);
    }

    #[test]
    fn jobs_have_room_to_recurse() {
        fn depth(n: usize) -> usize {
            let frame = [n; 128];
            if n == 0 {
                0
            } else {
                1 + depth(std::hint::black_box(frame)[0] - 1)
            }
        }
        for parallel in [false, true] {
            let depths = map(parallel, 2, || (), |(), _| Ok(depth(4000))).unwrap();
            assert_eq!(depths, [4000, 4000]);
        }
    }
}

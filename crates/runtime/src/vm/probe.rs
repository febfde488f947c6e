//! Tries whether code that is suspended by the signal handler goes on with all its registers: what the kernel
//! saves, how large it is, whether `xrstor` and `iretq` do here what they should.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::ops::Range;

use selvedge_artifact::tunables::Tunables;

use super::activation::{Activation, Interrupted};
use crate::arch::probe::{Contents, Probe, Width};
use crate::arch::{self, capture};
use crate::engine::Engine;
use crate::instance::store::Store;
use crate::region::limits::Limits;
use crate::stack::cache;
use crate::sys::{interrupt, thread};
use crate::traphandlers::lazy_per_thread_init;

/// Tries all widths of vector registers that this processor has. What went wrong, if something did.
pub(crate) fn run() -> Result<(), String> {
    interrupt::barrier().map_err(|error| format!("no barrier on other threads: {error}"))?;
    lazy_per_thread_init().map_err(|error| error.to_string())?;
    Width::all().try_for_each(|width| try_width(width).map_err(|why| format!("{width:?}: {why}")))
}

/// Something else in every place.
fn contents(seed: u8, width: Width) -> Contents {
    let mut next = u64::from(seed);
    let mut word = || {
        // Knuth's constants for a linear congruential generator.
        next = next
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        next
    };
    let (vector_len, masks) = width.covers();
    let mut contents = Contents {
        vectors: [0; 64 * 32],
        general: [(); 14].map(|()| word()),
        // Carry, parity, adjust, zero, sign, direction and overflow flags; bit 1 and the interrupt flag are
        // always set.
        flags: word() & 0xcd5 | 0x202,
        masks: [0; 8],
    };
    contents.vectors[..vector_len].fill_with(|| word().to_le_bytes()[5]);
    contents.masks[..masks + 1].fill_with(|| word().to_le_bytes()[6].into());
    contents.masks[0] = 0;
    contents
}

fn try_width(width: Width) -> Result<(), String> {
    let store = Store::new(
        &Engine::without_handler(Tunables::default()),
        Limits::default(),
    );
    store.room.ensure();
    let stack = cache::acquire(64 << 10).map_err(|error| error.to_string())?;
    let found = Contents {
        vectors: [0; 64 * 32],
        general: [0; 14],
        flags: 0,
        masks: [0; 8],
    };
    for seed in 0..4 {
        let mut probe = Probe {
            given: contents(seed, width),
            found: found.clone(),
        };
        if seed == 3 {
            // Another thread's registers are as good.
            let moved = std::thread::scope(|scope| {
                let probe = &mut probe;
                suspend(&store, &stack, width, probe)?;
                let (store, stack) = (Alone(&store), Alone(&*stack));
                let resumed = scope.spawn(move || {
                    lazy_per_thread_init().map_err(|error| error.to_string())?;
                    resume(store.get(), stack.get())
                });
                resumed
                    .join()
                    .unwrap_or_else(|_| Err("the other thread panicked".to_owned()))
            });
            moved?;
        } else {
            suspend(&store, &stack, width, &mut probe)?;
            resume(&store, &stack)?;
        }
        if probe.given != probe.found {
            return Err(difference(&probe));
        }
    }
    cache::release(stack);
    Ok(())
}

/// Lends something to the one other thread that uses it while this one waits.
struct Alone<T>(T);

// SAFETY: `try_width` waits for the thread that it lends to.
unsafe impl<T> Send for Alone<T> {}

impl<T> Alone<T> {
    fn get(self) -> T {
        self.0
    }
}

fn activation(store: &Store, stack: &crate::stack::Stack) -> Activation {
    let none: &[Range<usize>] = &[];
    store.limits.words().begin(thread::os_id());
    store.depth.set(1);
    Activation::new(store, store.limits.as_ptr(), stack.bounds(), none)
}

fn suspend(
    store: &Store,
    stack: &crate::stack::Stack,
    width: Width,
    probe: &mut Probe,
) -> Result<(), String> {
    let activation = activation(store, stack);
    let probe_addr = (&raw mut *probe).expose_provenance();
    let left = activation.publish(|| {
        // SAFETY: the probe's code is a trampoline that wants a `Probe` for a body and no slots; the stack is ours
        // and free, the activation published.
        unsafe {
            let limits = store.limits.as_ptr();
            arch::enter(
                limits,
                0,
                width.code(),
                probe_addr,
                core::ptr::null_mut(),
                stack.top(),
            )
        }
    });
    store.limits.words().suspend();
    match activation.interrupted.take() {
        Some(Interrupted::Suspended) if left == 1 => Ok(()),
        _ => Err("the code could not be suspended: the processor or the kernel keeps its registers in another form"
            .to_owned()),
    }
}

fn resume(store: &Store, stack: &crate::stack::Stack) -> Result<(), String> {
    let activation = activation(store, stack);
    let left = activation.publish(|| {
        // SAFETY: the probe's code has just been suspended by the signal handler, on this stack.
        unsafe { capture::go_on(store.limits.control(), store.room.registers()) }
    });
    store.limits.words().end();
    if left == 0 {
        Ok(())
    } else {
        Err("the code did not go on".to_owned())
    }
}

fn difference(probe: &Probe) -> String {
    let (given, found) = (&probe.given, &probe.found);
    let general = (0..14).find(|&i| given.general[i] != found.general[i]);
    if let Some(number) = general {
        return format!("general register {number} changed");
    }
    if given.flags != found.flags {
        return format!(
            "flags changed from {:#x} to {:#x}",
            given.flags, found.flags
        );
    }
    if given.masks != found.masks {
        return format!(
            "mask registers changed from {:x?} to {:x?}",
            given.masks, found.masks
        );
    }
    let byte = (0..given.vectors.len()).find(|&i| given.vectors[i] != found.vectors[i]);
    format!(
        "vector registers changed at byte {}",
        byte.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fork;

    #[test]
    fn x_20_registers_of_every_width_survive() {
        // In a child: the handler of signals stays with this process otherwise.
        let outcome = fork::run(|| {
            crate::traphandlers::init_traps().unwrap();
            match run() {
                Ok(()) => 0,
                Err(why) => {
                    let _ = std::io::Write::write_all(&mut std::io::stderr(), why.as_bytes());
                    1
                }
            }
        });
        assert_eq!(outcome, fork::Outcome::Exited(0));
    }
}

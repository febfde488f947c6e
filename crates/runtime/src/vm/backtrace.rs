//! Walks the frames of a guest by frame pointers, after the guest was left or while it waits.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::ops::Range;

/// The state of a guest at which a walk begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// An instruction of the guest, or a return address into it.
    pub(crate) pc: usize,
    /// Frame pointer that belongs to it.
    pub(crate) fp: usize,
    /// Whether `pc` is a return address.
    pub(crate) is_return: bool,
    /// Stack pointer at the entry into the guest: the walk ends there.
    pub(crate) entry_sp: usize,
}

/// Calls `visit` with an address inside the instruction of each frame, innermost first.
///
/// # Safety
///
/// - `stack` is mapped, and holds the frames of a guest that was stopped at `start` and has not been
///   entered at or above `start.fp` since.
pub(crate) unsafe fn walk(stack: &Range<usize>, start: Start, mut visit: impl FnMut(usize)) {
    // A return address belongs to the instruction before it.
    visit(if start.is_return {
        start.pc - 1
    } else {
        start.pc
    });
    let mut fp = start.fp;
    // The frame of the entry trampoline lies right below `entry_sp`: its return address leads to the host.
    while stack.contains(&fp) && fp.is_multiple_of(8) && fp + 16 <= start.entry_sp.min(stack.end) {
        // SAFETY: both words lie in the mapped stack, as just checked; frames keep the form
        // `[saved fp, return address]`, since generated code preserves frame pointers.
        let (next, pc) = unsafe { (*(fp as *const usize), *((fp + 8) as *const usize)) };
        if pc != 0 {
            visit(pc - 1);
        }
        // Stacks grow down, so outer frames lie higher: anything else is not a chain.
        if next <= fp {
            break;
        }
        fp = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(
        words: &mut [usize],
        pc: usize,
        fp_word: usize,
        link: &[(usize, usize)],
    ) -> Vec<usize> {
        let base = words.as_ptr().addr();
        for &(at, to) in link {
            words[at] = if to == usize::MAX { 0 } else { base + to * 8 };
        }
        let stack = base..base + words.len() * 8;
        let start = Start {
            pc,
            fp: base + fp_word * 8,
            is_return: false,
            entry_sp: stack.end,
        };
        let mut seen = Vec::new();
        // SAFETY: the words are ours and lie still.
        unsafe { walk(&stack, start, |pc| seen.push(pc)) };
        seen
    }

    #[test]
    fn frames_are_followed_upwards_and_cycles_end() {
        let mut words = vec![0; 16];
        words[3] = 101;
        words[7] = 201;
        assert_eq!(
            walked(&mut words, 50, 2, &[(2, 6), (6, usize::MAX)]),
            [50, 100, 200]
        );
        let mut words = vec![0; 16];
        words[3] = 101;
        assert_eq!(walked(&mut words, 50, 2, &[(2, 2)]), [50, 100]);
    }
}

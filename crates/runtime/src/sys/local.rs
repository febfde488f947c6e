//! Cells of a thread, as the loads and stores that they are.
//!
//! `LocalKey::get` and its kin are generic and not marked to be inlined: where a program is built without optimisation
//! across units, each is a call, and another one through a pointer. A call of a guest has seven of them, about a
//! hundred of its instructions.

use std::cell::Cell;
use std::thread::LocalKey;

/// A cell of the thread, made by `const` and without destructor, so that it is there at any time.
pub(crate) trait LocalCell<T> {
    /// Its value.
    fn load(&'static self) -> T
    where
        T: Copy;

    /// Gives it a value; the former one.
    fn swap(&'static self, value: T) -> T;
}

impl<T> LocalCell<T> for LocalKey<Cell<T>> {
    #[inline(always)]
    fn load(&'static self) -> T
    where
        T: Copy,
    {
        self.try_with(Cell::get).expect(ALWAYS)
    }

    #[inline(always)]
    fn swap(&'static self, value: T) -> T {
        self.try_with(|cell| cell.replace(value)).expect(ALWAYS)
    }
}

const ALWAYS: &str = "a cell without destructor is there as long as its thread";

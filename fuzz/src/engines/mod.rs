//! What the comparison asks of an engine. Each file below gives it for one.

pub(crate) mod host;
pub(crate) mod selvedge;
pub(crate) mod value;
pub(crate) mod wasmi;
pub(crate) mod wasmtime;
mod window;

use xxhash_rust::xxh3::xxh3_64;

use crate::generate::Case;
use value::{Outcome, Value};

/// An engine with its settings. It is kept for many cases.
pub(crate) trait Engine {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// Whether a case is of use with this engine: it has what the module uses, and the same NaNs.
    fn takes(&self, case: &Case) -> bool;

    /// Makes an instance of a case's module and runs its start function; if there is none to be had,
    /// how that ended.
    fn instantiate(&self, case: &Case) -> Result<Box<dyn Guest>, Outcome>;
}

/// An instance.
pub(crate) trait Guest {
    /// Gives the guest its fuel, if its module counts any.
    fn refuel(&mut self, fuel: u32);

    /// Calls an exported function.
    fn call(&mut self, func: &str, args: &[Value]) -> Outcome;

    /// What can be seen of the guest from outside.
    fn state(&mut self) -> State;
}

/// Memories, tables and globals of a guest between two calls.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct State {
    pub(crate) memories: Vec<Contents>,
    pub(crate) tables: Vec<Contents>,
    pub(crate) globals: Vec<Value>,
    /// Whether a stack was used up out of sight, in a call that a host function made.
    pub(crate) exhausted: bool,
}

/// What something holds, in short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Contents {
    len: u64,
    hash: u64,
}

impl Contents {
    /// Of a memory.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            len: bytes.len() as u64,
            hash: xxh3_64(bytes),
        }
    }

    /// Of a table.
    pub(crate) fn of_values(values: &[Value]) -> Self {
        let bits = values.iter().flat_map(|value| value.bits().to_le_bytes());
        Self {
            len: values.len() as u64,
            hash: xxh3_64(&bits.collect::<Vec<u8>>()),
        }
    }
}

//! The engine: what loaded modules share. Cheap to clone, usable from any thread.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use selvedge_artifact::canon::TypeNumbers;
use selvedge_artifact::header::Accepts;
use selvedge_artifact::tunables::Tunables;
use selvedge_artifact::types::FuncType;

use crate::arch;
use crate::error::Error;
use crate::stop::deadline::Armed;
use crate::stop::epochs::Epochs;
use crate::stop::kill::{barrier, send};
use crate::traphandlers::init_traps;
use crate::vm::on_signal;

/// Whether guests can be suspended from outside here.
pub(crate) fn preemption() -> Result<(), Error> {
    static TESTED: OnceLock<Result<(), String>> = OnceLock::new();
    let tested = TESTED.get_or_init(crate::vm::probe::run);
    tested.clone().map_err(|why| Error::Unsupported {
        what: "suspending guests from outside",
        why,
    })
}

/// Settings and registries shared by the modules, regions and instances made with it.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tunables: Tunables,
    types: Mutex<TypeNumbers>,
    epochs: Epochs<Armed>,
}

/// Names an engine, and does not keep it alive.
#[derive(Clone, Debug)]
pub(crate) struct WeakEngine(Weak<Shared>);

impl WeakEngine {
    /// The engine, if it is still there.
    pub(crate) fn upgrade(&self) -> Option<Engine> {
        let shared = self.0.upgrade()?;
        Some(Engine { shared })
    }
}

impl Engine {
    /// Makes an engine and, the first time in a process, installs the trap handler.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the handler can't be installed.
    pub fn new() -> Result<Self, Error> {
        Self::with_tunables(Tunables::default())
    }

    /// Makes an engine for code that was compiled with certain tunables.
    ///
    /// # Errors
    ///
    /// As [`Engine::new`].
    pub fn with_tunables(tunables: Tunables) -> Result<Self, Error> {
        init_traps()?;
        Ok(Self::without_handler(tunables))
    }

    pub(crate) fn without_handler(tunables: Tunables) -> Self {
        let shared = Shared {
            tunables,
            types: Mutex::default(),
            epochs: Epochs::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes the trap handler out of the process and puts back who was there before it; false, and
    /// nothing is changed, if somebody has put a handler on top of ours. From then on a guest that
    /// traps is a fault of the process, until an engine is made again.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the system refuses.
    pub fn remove_trap_handler() -> Result<bool, Error> {
        on_signal::uninstall()
    }

    /// Whether guests can be suspended from outside on this machine, by a [`PreemptSwitch`](crate::PreemptSwitch) or
    /// after a slice of time. The first call in a process tries it: it suspends a piece of code that has something
    /// in every register, lets it go on, and compares.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] with what went wrong.
    pub fn preemption() -> Result<(), Error> {
        init_traps()?;
        preemption()
    }

    /// Begins the next epoch of this engine; its number. Guests whose deadline that is are stopped, wherever they
    /// are, see [`Instance::set_epoch_deadline`](crate::Instance::set_epoch_deadline). If there are none, this is an
    /// addition and a comparison, however many guests run. Any thread may call it, but not a signal handler:
    /// [`EpochTicker`](crate::EpochTicker) is a thread that does it regularly.
    pub fn increment_epoch(&self) -> u64 {
        self.shared.epochs.increment(barrier, send)
    }

    /// The number of the epoch: how often [`Engine::increment_epoch`] was called.
    pub fn epoch(&self) -> u64 {
        self.shared.epochs.now()
    }

    /// Who has a deadline.
    pub(crate) fn epochs(&self) -> &Epochs<Armed> {
        &self.shared.epochs
    }

    /// A name of this engine that does not keep it alive.
    pub(crate) fn downgrade(&self) -> WeakEngine {
        WeakEngine(Arc::downgrade(&self.shared))
    }

    /// What generated code may assume of this engine.
    pub fn tunables(&self) -> &Tunables {
        &self.shared.tunables
    }

    /// Whether two handles name the same engine.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// What artifacts this engine accepts.
    pub(crate) fn accepts(&self) -> Accepts<'_> {
        Accepts {
            target: arch::TARGET,
            has_feature: arch::cpu_has,
            tunables: &self.shared.tunables,
        }
    }

    /// Numbers of a module's types: equal types of all modules share one, so that a call across modules
    /// compares two integers.
    pub(crate) fn type_ids(&self, types: &[FuncType], groups: &[u32]) -> Box<[u32]> {
        // A thread that panicked here left the numbers whole: they are added in one step.
        let mut known = self
            .shared
            .types
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.number(types, groups).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_artifact::types::ValType;

    #[test]
    fn equal_types_have_one_number() {
        // Other tests of this process look at signal dispositions, so no handler is installed.
        let engine = Engine::without_handler(Tunables::default());
        let a = FuncType::new([ValType::I32], []);
        let b = FuncType::new([], [ValType::I32]);
        let first = engine.type_ids(&[a.clone(), b.clone(), a.clone()], &[]);
        assert_eq!(first[0], first[2]);
        assert_ne!(first[0], first[1]);
        assert_eq!(*engine.type_ids(&[b], &[]), [first[1]]);
    }
}

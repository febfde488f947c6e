//! What of a store few instances have: it is made when one of it is asked for, and stays with the store.
//!
//! An idle instance is to be small, and so is what is renewed when one is dropped.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::fault::fatal::Handlers;
use crate::instance::exceptions::Exceptions;
use crate::instance::permission::AnyLimiter;
use crate::instance::record::Record;
use crate::instance::store::Store;
use crate::region::alloc::AllocStrategy;
use crate::stop::deadline::Deadline;
use crate::value::ExternRef;
use crate::vm::ptr::FuncRefPtr;

/// What few instances have.
#[derive(Default)]
pub(crate) struct Extras {
    /// Members by the name under which later ones import from them.
    pub(crate) names: HashMap<String, Rc<Record>>,
    /// What becomes of the guest at its epoch deadline.
    pub(crate) deadline: Deadline,
    /// Exceptions that are referred to, and the one that was caught last.
    pub(crate) exceptions: Exceptions,
    /// Who is told of signals and fatal faults. Changed only while no guest runs.
    pub(crate) handlers: Handlers,
    /// Who has a say when memories and tables grow.
    pub(crate) limiter: RefCell<Option<AnyLimiter>>,
    /// Which slots linked modules get.
    pub(crate) alloc: AllocStrategy,
    pub(super) foreign: RefCell<Foreign>,
    pub(super) externs: RefCell<Externs>,
}

/// Functions in tables that are not of the table's own module, by the number in their entries.
#[derive(Default)]
pub(super) struct Foreign {
    list: Vec<FuncRefPtr>,
    numbers: HashMap<FuncRefPtr, u32>,
    /// How many the tables of the first member begin with.
    sealed: usize,
}

/// Host objects that guests hold, by handle. An object stays until the instance is dropped.
#[derive(Default)]
pub(super) struct Externs {
    list: Vec<ExternRef>,
    handles: HashMap<usize, u64>,
}

impl Extras {
    /// Makes all of it what it is for a new instance, but the references ([`Extras::forget_references`]). Every
    /// field is named here, so that a new one is not forgotten.
    pub(super) fn renew(&mut self) {
        let Self {
            names,
            deadline,
            exceptions,
            handlers,
            limiter,
            alloc,
            foreign: _,
            externs: _,
        } = self;
        names.clear();
        *deadline = Deadline::default();
        *exceptions = Exceptions::default();
        *handlers = Handlers::default();
        limiter.get_mut().take();
        *alloc = AllocStrategy::default();
    }

    /// Drops what the embedder gave to the instance.
    pub(super) fn forget_embedder(&mut self) {
        self.deadline = Deadline::default();
        self.limiter.get_mut().take();
        self.handlers = Handlers::default();
    }

    /// Forgets references that only a guest could name.
    pub(super) fn forget_references(&mut self) {
        self.foreign.get_mut().forget();
        let externs = self.externs.get_mut();
        if !externs.list.is_empty() {
            *externs = Externs::default();
        }
    }
}

impl Foreign {
    /// Number of a function in table entries.
    fn number(&mut self, ptr: FuncRefPtr) -> u32 {
        let Self { list, numbers, .. } = self;
        *numbers.entry(ptr).or_insert_with(|| {
            list.push(ptr);
            (list.len() - 1) as u32
        })
    }

    /// Leaves those that the tables of the first member begin with.
    fn forget(&mut self) {
        let kept = self.sealed;
        if self.list.len() > kept {
            self.list.truncate(kept);
            self.numbers.retain(|_, number| (*number as usize) < kept);
        }
    }
}

impl Externs {
    /// The handle of an object.
    fn handle(&mut self, object: &ExternRef) -> u64 {
        let Self { list, handles } = self;
        *handles.entry(object.addr()).or_insert_with(|| {
            list.push(object.clone());
            list.len() as u64
        })
    }
}

impl Store {
    /// Number of a function in table entries.
    pub(crate) fn foreign_number(&self, ptr: FuncRefPtr) -> u32 {
        self.extras().foreign.borrow_mut().number(ptr)
    }

    /// The function of a number.
    pub(crate) fn foreign_func(&self, number: u32) -> Option<FuncRefPtr> {
        let foreign = self.known_extras()?.foreign.borrow();
        foreign.list.get(number as usize).copied()
    }

    /// Takes the foreign functions that tables hold now for those that they begin with.
    pub(crate) fn seal_references(&self) {
        if let Some(extras) = self.known_extras() {
            let mut foreign = extras.foreign.borrow_mut();
            foreign.sealed = foreign.list.len();
        }
    }

    /// The handle of a host object.
    pub(super) fn extern_handle(&self, object: &ExternRef) -> u64 {
        self.extras().externs.borrow_mut().handle(object)
    }

    /// The host object of a handle.
    pub(super) fn extern_of(&self, handle: u64) -> Option<ExternRef> {
        let index = usize::try_from(handle).ok()?.checked_sub(1)?;
        let externs = self.known_extras()?.externs.borrow();
        externs.list.get(index).cloned()
    }
}

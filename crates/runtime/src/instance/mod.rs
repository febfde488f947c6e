//! One guest, and what the host may do with it.

pub(crate) mod builder;
pub(crate) mod builtins;
pub(crate) mod call;
pub(crate) mod exceptions;
pub(crate) mod exports;
pub(crate) mod extras;
pub(crate) mod globals;
pub(crate) mod growth;
pub(crate) mod handle;
pub(crate) mod heap_words;
pub(crate) mod husk;
pub(crate) mod imports;
pub(crate) mod init;
pub(crate) mod link;
pub(crate) mod memory;
pub(crate) mod permission;
pub(crate) mod record;
pub(crate) mod reset;
pub(crate) mod segments;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod store;
pub(crate) mod table;

use std::any::{Any, TypeId};
use std::cell::{OnceCell, Ref, RefMut};
use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::rc::Rc;

use selvedge_artifact::ids::MemoryIdx;
use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::types::FuncType;

use crate::error::Error;
use crate::fault::core_dump;
use crate::fault::details::FaultDetails;
use crate::host::error::TerminationDetails;
use crate::host::suspend::YieldedVal;
use crate::host::typed_future::CallAsync;
use crate::host::vmctx::{HeapRef, HeapRefMut};
use crate::module::Module;
use crate::region::Region;
use crate::region::limits::Limits;
use crate::value::{Func, RunResult, UntypedRetVal, Val};
use crate::vm::callee::Callee;
use crate::vm::memory::GuestMemory;
use crate::vm::store_ptr::LiveStore;
use growth::Asker;
use record::Record;
use state::State;

/// A program in a slot, with its own memory, globals, tables and, while it runs, a stack.
///
/// Instances are made by a [`Region`] and held by an [`InstanceHandle`](crate::InstanceHandle). More
/// modules can be linked into an instance, see [`Instance::link`]; methods without `member` mean the
/// module that it was made of.
///
/// After a fault the instance can be run again, with its memory as the guest left it; after a termination it
/// must be [reset](Instance::reset) first. While the guest is suspended, everything but running another
/// function is allowed: its memory, globals and tables can be looked at and changed.
pub struct Instance {
    pub(crate) store: LiveStore,
    /// Its region, once it has been asked for. The slots of the store keep it anyway.
    region: OnceCell<Region>,
}

/// The memory that is meant where none is named.
pub(crate) const MEMORY_0: MemoryIdx = MemoryIdx::new(0);

/// A module linked into an instance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Member(usize);

impl Member {
    /// The module that the instance was made of.
    pub const MAIN: Self = Self(0);
}

impl Instance {
    /// An instance of a region, or of one outside it for which it counts as its own.
    fn new(store: LiveStore, region: &Region) -> Self {
        let instance = Self {
            store,
            region: OnceCell::new(),
        };
        let main = instance.store.members.first();
        if !main.is_some_and(|main| main.is_in(region)) {
            instance.region.get_or_init(|| region.clone());
        }
        instance
    }

    /// Runs an exported function.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`], [`Error::ExportKind`] or [`Error::TypeMismatch`] if the call does not fit
    /// the module; [`Error::InstanceNeedsStart`]; [`Error::RuntimeFault`] if the guest trapped,
    /// [`Error::RuntimeTerminated`] or [`Error::HostFunction`] if a host function ended it;
    /// [`Error::InvalidArgument`] if it is suspended or was terminated; [`Error::System`] if there is no stack
    /// to be had.
    ///
    /// # Panics
    ///
    /// If a host function panics, its panic goes on here; the instance is terminated then. See
    /// [`Instance::set_catch_panics`].
    pub fn run(&mut self, entrypoint: &str, args: &[Val]) -> Result<RunResult, Error> {
        self.run_member(Member::MAIN, entrypoint, args)
    }

    /// Runs an exported function of a linked module.
    ///
    /// # Errors
    ///
    /// As [`Instance::run`].
    pub fn run_member(
        &mut self,
        member: Member,
        entrypoint: &str,
        args: &[Val],
    ) -> Result<RunResult, Error> {
        let record = self.record(member)?;
        let func = record.exported_func(entrypoint)?;
        self.store.state.get().check_run()?;
        self.result(record.call(func, args))
    }

    /// Runs the function at an index of an exported or internal table, by their numbers in the module.
    ///
    /// # Errors
    ///
    /// As [`Instance::run`], and [`Error::InvalidArgument`] if there is no such table, element or function.
    pub fn run_func_idx(
        &mut self,
        table_idx: u32,
        func_idx: u32,
        args: &[Val],
    ) -> Result<RunResult, Error> {
        let func = self.main()?.table_func(table_idx, func_idx)?;
        self.store.state.get().check_run()?;
        self.result(self.store.call_func(func, args))
    }

    /// Runs a function that the guest gave as a reference.
    ///
    /// # Errors
    ///
    /// As [`Instance::run`], and [`Error::ForeignReference`] if it is of another instance.
    pub fn run_func(&mut self, func: Func, args: &[Val]) -> Result<RunResult, Error> {
        self.store.state.get().check_run()?;
        self.result(self.store.call_func(func, args))
    }

    /// Runs a function of this type.
    pub(crate) fn run_callee(
        &mut self,
        callee: &Callee,
        ty: &FuncType,
        args: &[Val],
    ) -> Result<RunResult, Error> {
        self.store.state.get().check_run()?;
        self.result(call::call(&self.store, callee, ty, args))
    }

    /// Runs the module's start function. A module without one needs no start, and this does nothing. After a
    /// [reset](Instance::reset) of an instance with linked modules theirs run too, in the order of linking.
    ///
    /// # Errors
    ///
    /// As [`Instance::run`]; [`Error::StartAlreadyRun`] the second time; [`Error::StartYielded`] if it suspended
    /// the guest, which can be resumed.
    pub fn run_start(&mut self) -> Result<(), Error> {
        let mut starts = self.starts()?;
        while let Some(result) = self.run_next_start(&mut starts) {
            self.check_started(result?)?;
        }
        Ok(())
    }

    /// Runs the module's start function as a future, as [`Instance::run_start`] does: for one whose host functions return
    /// futures, or that grows a memory for which an [`AsyncLimiter`](crate::AsyncLimiter) is asked. If several start
    /// functions run, they do one after the other, also if they wait.
    ///
    /// Such an instance is not made with
    /// [`InstanceBuilder::run_start_by_itself`](crate::InstanceBuilder::run_start_by_itself).
    ///
    /// # Errors
    ///
    /// The future's: as [`Instance::run_start`] and [`Instance::run_for`].
    ///
    /// # Panics
    ///
    /// When it is polled: as [`Instance::run`].
    pub fn run_start_async(&mut self) -> CallAsync<'_, ()> {
        CallAsync::new(self.start_as_future())
    }

    /// The members whose start functions are to run.
    pub(crate) fn starts(&self) -> Result<Range<usize>, Error> {
        if !self.has_start() {
            return Ok(0..0);
        }
        self.store.state.get().check_start()?;
        if self.store.members_started.get() {
            return Ok(0..1);
        }
        Ok(0..self.store.members.len())
    }

    /// Runs the start function of the next of these members that has one; nothing if none has.
    pub(crate) fn run_next_start(
        &mut self,
        starts: &mut Range<usize>,
    ) -> Option<Result<RunResult, Error>> {
        for member in starts {
            let record = &self.store.members[member];
            if let Some(start) = record.start() {
                // A start function that fails has run.
                self.store.state.set(State::Ready);
                return Some(self.result(record.call(start, &[])));
            }
        }
        self.store.members_started.set(true);
        None
    }

    /// Checks that a start function has come to its end.
    pub(crate) fn check_started(&self, result: RunResult) -> Result<(), Error> {
        match result {
            RunResult::Returned(_) => return Ok(()),
            // For `take_yielded`.
            RunResult::Yielded(val) if val.is_some() => self.store.yielded.set(Some(val)),
            RunResult::Yielded(_)
            | RunResult::Preempted
            | RunResult::OutOfFuel
            | RunResult::EpochReached => {}
        }
        Err(Error::StartYielded)
    }

    /// Whether there is a start function that runs after creation or reset.
    fn has_start(&self) -> bool {
        let mut members = self.store.members.iter();
        members.any(|member| member.start().is_some())
    }

    /// Lets a suspended guest go on, without a value.
    ///
    /// # Errors
    ///
    /// As [`Instance::run`]; [`Error::InvalidArgument`] if the instance is not suspended or expects a value, and
    /// [`Error::OtherThread`] if it was suspended in the middle of a host function on another thread: then it
    /// stays as it is.
    ///
    /// # Panics
    ///
    /// As [`Instance::run`].
    #[inline]
    pub fn resume(&mut self) -> Result<RunResult, Error> {
        self.resume_with(None)
    }

    /// Lets a suspended guest go on with the value that its host function expects.
    ///
    /// # Errors
    ///
    /// As [`Instance::resume`]; [`Error::ResumeType`] if a value of another type is expected, or
    /// [`Error::InvalidArgument`] if none is: then the instance stays suspended, and the value is dropped.
    ///
    /// # Panics
    ///
    /// As [`Instance::run`].
    pub fn resume_with_val<A: Any>(&mut self, val: A) -> Result<RunResult, Error> {
        self.resume_with(Some(Box::new(val)))
    }

    #[inline]
    pub(crate) fn resume_with(&mut self, val: Option<Box<dyn Any>>) -> Result<RunResult, Error> {
        self.store.state.get().check_resume()?;
        if val.is_none() && self.is_preempted() {
            if self.is_out_of_fuel() && self.fuel() == Some(0) {
                return Ok(RunResult::OutOfFuel);
            }
            self.store.arm_on_resume()?;
        }
        self.result(crate::vm::resume::resume(&self.store, val))
    }

    /// Takes what the suspended guest has handed out, if it has and nobody has taken it: after a call that said
    /// [`Error::InstanceYielded`] or [`Error::StartYielded`].
    pub fn take_yielded(&mut self) -> Option<YieldedVal> {
        self.store.yielded.take()
    }

    /// Gives up a suspended guest, whose instance is terminated then. Frames of a host function that belong to
    /// another thread can't be given up here: then it stays suspended.
    pub(crate) fn give_up(&mut self) {
        if self.store.state.get().check_resume().is_ok()
            && crate::vm::resume::abandon(&self.store).is_ok()
        {
            self.store.limits.words().renew();
            self.store.state.set(State::Terminated);
        }
    }

    /// Ends a suspended guest whose end somebody wants, or whose epoch deadline is reached, without letting its host function go on.
    pub(crate) fn end_suspended(&mut self) -> Result<RunResult, Error> {
        self.store.state.get().check_resume()?;
        let expired = (!self.store.limits.words().is_wanted()).then(|| self.backtrace());
        crate::vm::resume::abandon(&self.store)?;
        if let Some(backtrace) = expired {
            self.store.state.set(State::Faulted);
            self.store.limits.words().end();
            return Err(self.store.fault_at(TrapCode::EpochDeadline, backtrace));
        }
        // Said before the place is: whoever wants the end does not take it back then.
        self.store.limits.words().honour();
        self.store.limits.words().end();
        self.store.state.set(State::Terminated);
        Err(Error::RuntimeTerminated(TerminationDetails::Remote))
    }

    /// What a call tells the embedder. A guest that yields has its answer in registers: nothing on that way returns
    /// a whole result.
    #[inline]
    fn result(&self, mut result: Result<Vec<Val>, Error>) -> Result<RunResult, Error> {
        if matches!(result, Err(Error::InstancePreempted)) {
            self.go_past_epochs(&mut result);
        }
        match result {
            Ok(values) => Ok(RunResult::Returned(UntypedRetVal::new(values))),
            // Of another instance it is an error that passed through a host function of this one.
            Err(Error::InstancePreempted) if self.is_out_of_fuel() => Ok(RunResult::OutOfFuel),
            Err(Error::InstancePreempted) if self.is_epoch_reached() => Ok(RunResult::EpochReached),
            Err(Error::InstancePreempted) if self.is_preempted() => Ok(RunResult::Preempted),
            Err(Error::InstanceYielded) if self.is_yielded() => Ok(RunResult::Yielded(
                self.store.yielded.take().unwrap_or_default(),
            )),
            Err(error) => Err(error),
        }
    }

    #[cold]
    #[inline(never)]
    fn go_past_epochs(&self, result: &mut Result<Vec<Val>, Error>) {
        *result = self.past_epochs(Err(Error::InstancePreempted));
    }

    /// Whether the instance has a start function that must run first.
    pub fn is_not_started(&self) -> bool {
        self.store.state.get() == State::NotStarted
    }

    /// Whether the instance can be run, and nothing has gone wrong.
    pub fn is_ready(&self) -> bool {
        self.store.state.get() == State::Ready
    }

    /// Whether the guest is suspended and can be resumed.
    pub fn is_yielded(&self) -> bool {
        self.store.state.get() == State::Yielded
    }

    /// Whether the guest was suspended in the middle of a host function
    /// ([`Linker::suspending_func`](crate::Linker::suspending_func)), so that only the thread that ran it can resume or
    /// reset it ([`Error::OtherThread`]).
    pub fn is_bound_to_thread(&self) -> bool {
        crate::vm::resume::is_bound(&self.store)
    }

    /// Whether the guest trapped at last, or a host function failed. It can be run again.
    pub fn is_faulted(&self) -> bool {
        self.store.state.get() == State::Faulted
    }

    /// Whether the guest was ended, by a host function or from outside. It can't be run again until it is reset.
    pub fn is_terminated(&self) -> bool {
        self.store.state.get() == State::Terminated
    }

    /// Says what becomes of panics of host functions: values ([`TerminationDetails::OtherPanic`]) if `catch`,
    /// otherwise they go on in whoever runs the guest, which is what an instance begins with.
    ///
    /// [`TerminationDetails::OtherPanic`]: crate::TerminationDetails::OtherPanic
    pub fn set_catch_panics(&mut self, catch: bool) {
        self.store.catch_panics.set(catch);
    }

    /// The module that the instance was made of.
    pub fn module(&self) -> &Module {
        self.store.members[0].module()
    }

    /// The module of a member.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the member is of another instance.
    pub fn member_module(&self, member: Member) -> Result<&Module, Error> {
        Ok(self.record(member)?.module())
    }

    /// The region that the instance is of.
    pub fn region(&self) -> &Region {
        self.region
            .get_or_init(|| self.store.members[0].lease().region_handle())
    }

    /// The bytes of memory 0.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] without a memory; [`Error::MemoryShared`]; [`Error::MemoryBorrowed`] if it is borrowed mutably.
    pub fn heap(&self) -> Result<HeapRef<'_>, Error> {
        self.memory0()?
            .borrow()
            .map(HeapRef)
            .ok_or(Error::MemoryBorrowed)
    }

    /// The bytes of memory 0, to be written.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] without a memory; [`Error::MemoryShared`]; [`Error::MemoryBorrowed`] if it is borrowed;
    /// [`Error::InstancePreempted`].
    pub fn heap_mut(&mut self) -> Result<HeapRefMut<'_>, Error> {
        self.store.state.get().check_change()?;
        self.memory0()?
            .borrow_mut()
            .map(HeapRefMut)
            .ok_or(Error::MemoryBorrowed)
    }

    /// The limits of this instance.
    pub fn limits(&self) -> &Limits {
        &self.store.region_limits
    }

    /// Bytes that all memories and tables of the instance have together, which `Limits::total_memory_len`
    /// bounds.
    pub fn total_memory_len(&self) -> u64 {
        self.store.memory_total()
    }

    /// Grows memory 0 by a number of Wasm pages; the former count of pages. The instance's limiter is not
    /// asked.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] without a memory; [`Error::LimitsExceeded`] if its maximum or the
    /// region's limit stands against it; [`Error::MemoryBorrowed`].
    pub fn grow_memory(&mut self, additional_pages: u32) -> Result<u32, Error> {
        self.store.state.get().check_change()?;
        // What is missing is said first.
        let main = self.main()?;
        if main.shared_memory(MEMORY_0).is_none() {
            self.memory0()?;
        }
        main.grow_memory_checked(MEMORY_0, additional_pages, Asker::Embedder)
    }

    pub(crate) fn memory0(&self) -> Result<&GuestMemory, Error> {
        self.main()?.sliceable_memory(MEMORY_0)
    }

    /// Writes a core dump: what the guest has left in its memories and globals, and the frames of a fault, as
    /// a Wasm file in the format that debuggers know (`Coredump.md` of the WebAssembly tool conventions).
    /// Pages that are zero are left out, and so is what goes beyond the 4 GiB that the format holds. References
    /// come out as null; locals and operands are not in it.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the writer fails; [`Error::MemoryBorrowed`] if a memory is borrowed mutably.
    pub fn core_dump(
        &self,
        fault: Option<&FaultDetails>,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        core_dump::write(&self.store, fault, out)
    }

    /// Keeps a value with the instance for host functions to find; the former one of its type.
    pub fn insert_embed_ctx<T: Any + Send>(&mut self, ctx: T) -> Option<T> {
        let former = self.store.embed.insert(ctx);
        former
            .and_then(|cell| cell.into_inner().downcast().ok())
            .map(|ctx| *ctx)
    }

    /// Takes the context of a type out of the instance.
    pub fn remove_embed_ctx<T: Any + Send>(&mut self) -> Option<T> {
        let cell = self.store.embed.remove(TypeId::of::<T>())?;
        cell.into_inner().downcast().ok().map(|ctx| *ctx)
    }

    /// Whether there is a context of a type.
    pub fn contains_embed_ctx<T: Any + Send>(&self) -> bool {
        self.store.embed_cell::<T>().is_some()
    }

    /// The context of a type; `None` if there is none, an error if it is borrowed mutably.
    pub fn get_embed_ctx<T: Any + Send>(
        &self,
    ) -> Option<Result<Ref<'_, T>, std::cell::BorrowError>> {
        let cell = self.store.embed_cell::<T>()?;
        Some(match cell.try_borrow() {
            Ok(ctx) => Ok(Ref::filter_map(ctx, |ctx| ctx.downcast_ref()).ok()?),
            Err(error) => Err(error),
        })
    }

    /// The context of a type, to be changed; `None` if there is none, an error if it is borrowed.
    pub fn get_embed_ctx_mut<T: Any + Send>(
        &self,
    ) -> Option<Result<RefMut<'_, T>, std::cell::BorrowMutError>> {
        let cell = self.store.embed_cell::<T>()?;
        Some(match cell.try_borrow_mut() {
            Ok(ctx) => Ok(RefMut::filter_map(ctx, |ctx| ctx.downcast_mut()).ok()?),
            Err(error) => Err(error),
        })
    }

    fn main(&self) -> Result<&Rc<Record>, Error> {
        self.record(Member::MAIN)
    }

    pub(crate) fn record(&self, member: Member) -> Result<&Rc<Record>, Error> {
        let unknown = Error::InvalidArgument("the instance has no such member");
        self.store.members.get(member.0).ok_or(unknown)
    }
}

impl Drop for Instance {
    /// Unwinds the frames of a host function that is suspended, if they are this thread's. Those of another
    /// thread stay, with their stack, for ever: they can run nowhere else.
    fn drop(&mut self) {
        if self.store.state.get().check_resume().is_ok() {
            self.store.spoil();
        }
        crate::vm::resume::abandon_for_good(&self.store);
        self.store.disarm();
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("members", &self.store.members)
            .finish_non_exhaustive()
    }
}

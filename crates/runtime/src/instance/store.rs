//! What the modules linked into one instance share: limits, stack, references, contexts.

use std::any::{Any, TypeId};
use std::cell::{Cell, OnceCell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use selvedge_artifact::ids::{FuncIdx, MemoryIdx};
use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::types::{FuncType, ValType};
use selvedge_artifact::vmfields::KIND_GUEST;

use crate::engine::Engine;
use crate::error::Error;
use crate::fault::details::{FaultDetails, Frame, TrapInfo, WasmBacktrace};
use crate::host::suspend::YieldedVal;
use crate::instance::exceptions::Exceptions;
use crate::instance::extras::Extras;
use crate::instance::record::Record;
use crate::instance::state::State;
use crate::program::WeakProgram;
use crate::region::limits::Limits;
use crate::stack::Bounds;
use crate::stop::fuel::Account;
use crate::stop::parking::WaitHook;
use crate::sys::keys::Key;
use crate::value::{ExnRef, ExternRef, Func, FuncRefAddr, References, Val};
use crate::vm::activation::Outcome;
use crate::vm::limits::{Exit, LimitsCell};
use crate::vm::ptr::FuncRefPtr;
use crate::vm::resume::{Parked, Suspension};
use crate::vm::room::Room;

/// A context of the embedder.
pub(crate) type EmbedCell = RefCell<Box<dyn Any + Send>>;

/// Contexts of the embedder by their types: few, so that looking at each is quicker than any index.
#[derive(Default)]
pub(crate) struct EmbedCtxs(Vec<(TypeId, EmbedCell)>);

impl EmbedCtxs {
    fn get(&self, ty: TypeId) -> Option<&EmbedCell> {
        let found = self.0.iter().find(|(of_type, _)| *of_type == ty)?;
        Some(&found.1)
    }

    /// Puts a context in the place of the former one of its type, which is returned.
    pub(crate) fn insert<T: Any + Send>(&mut self, ctx: T) -> Option<EmbedCell> {
        let ty = TypeId::of::<T>();
        let cell: EmbedCell = RefCell::new(Box::new(ctx));
        let same = self.0.iter_mut().find(|(of_type, _)| *of_type == ty);
        match same {
            Some((_, former)) => Some(std::mem::replace(former, cell)),
            None => {
                self.0.push((ty, cell));
                None
            }
        }
    }

    /// Takes the context of a type out.
    pub(crate) fn remove(&mut self, ty: TypeId) -> Option<EmbedCell> {
        let at = self.0.iter().position(|(of_type, _)| *of_type == ty)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody has borrowed one.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.0.iter().any(|(_, ctx)| ctx.try_borrow_mut().is_err())
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// What the modules linked into one instance share.
pub(crate) struct Store {
    /// Other threads have a share in it, for its atomic words.
    pub(crate) limits: Arc<LimitsCell>,
    /// Where the guest's state goes when it is suspended from outside.
    pub(crate) room: Room,
    /// Whether pages of the guest have a protection key, and it is entered and left by the keyed ways.
    pub(crate) keyed: bool,
    pub(crate) fuel: Account,
    pub(crate) engine: Engine,
    pub(crate) region_limits: Limits,
    /// Instances of modules, in the order in which they were linked. Records never leave.
    pub(crate) members: Vec<Rc<Record>>,
    /// Addresses that accesses to the members' memories may hit.
    pub(crate) memories: Vec<Range<usize>>,
    /// How another thread ends a wait of the guest, once somebody may want to.
    wait_hook: OnceCell<Arc<WaitHook>>,
    pub(crate) embed: EmbedCtxs,
    /// Where the guest's stack is, while it runs or waits for a host function; null otherwise.
    pub(crate) running: Cell<*const Bounds>,
    /// Where outer entries wait while an inner one runs, outermost first.
    pub(crate) waiting: RefCell<Vec<Exit>>,
    /// Whether a guest of this store runs on some thread's stack.
    pub(crate) depth: Cell<u32>,
    /// Whether the host calls a host function itself, with no guest of this store around it.
    pub(crate) under_host: Cell<bool>,
    /// Where the instance is in its life.
    pub(crate) state: Cell<State>,
    /// Whether start functions of linked modules have run since the last reset.
    pub(crate) members_started: Cell<bool>,
    /// What waits while the guest is suspended.
    pub(crate) parked: Cell<Option<Parked>>,
    pub(crate) suspension: Suspension,
    /// What the suspended guest has handed out, until somebody takes it.
    pub(crate) yielded: Cell<Option<YieldedVal>>,
    /// Whether panics of host functions end the guest with a value instead of going on.
    pub(crate) catch_panics: Cell<bool>,
    /// Whether the guest is run as a future, so that it can wait for one.
    pub(crate) is_awaited: Cell<bool>,
    /// Whether the guest is suspended, and does not trap, when it has no fuel left.
    pub(crate) waits_for_fuel: Cell<bool>,
    /// Whether that is why it is suspended.
    pub(crate) is_out_of_fuel: Cell<bool>,
    /// Whether a growth that fails ends the guest.
    pub(crate) ends_on_growth_failure: Cell<bool>,
    /// Whether start functions run by themselves.
    pub(crate) starts_itself: Cell<bool>,
    /// The program whose next instance may begin with this store.
    pub(crate) program: Option<WeakProgram>,
    /// Whether something has happened after which the store can't be kept for another instance.
    spoilt: Cell<bool>,
    pending: Cell<Option<Outcome>>,
    /// Whether the guest is left because a host function suspends it. Nothing is pending then.
    yields: Cell<bool>,
    id: u64,
    extras: OnceCell<Box<Extras>>,
}

impl Store {
    pub(crate) fn new(engine: &Engine, limits_of_instance: Limits) -> Self {
        Self::with_key(engine, limits_of_instance, None)
    }

    /// A store whose guest has its pages in a slot with this key.
    pub(crate) fn with_key(engine: &Engine, limits_of_instance: Limits, key: Option<Key>) -> Self {
        let (fuel, count) = Account::unlimited();
        let limits = Arc::new(key.map_or_else(LimitsCell::new, LimitsCell::keyed));
        limits.set_fuel(count);
        Self {
            limits,
            room: Room::none(),
            keyed: key.is_some(),
            fuel,
            engine: engine.clone(),
            region_limits: limits_of_instance,
            members: Vec::new(),
            memories: Vec::new(),
            wait_hook: OnceCell::new(),
            embed: EmbedCtxs::default(),
            running: Cell::new(std::ptr::null()),
            waiting: RefCell::default(),
            depth: Cell::new(0),
            under_host: Cell::new(false),
            state: Cell::new(State::Ready),
            members_started: Cell::new(true),
            parked: Cell::new(None),
            suspension: Suspension::default(),
            yielded: Cell::default(),
            catch_panics: Cell::new(false),
            is_awaited: Cell::new(false),
            waits_for_fuel: Cell::new(false),
            is_out_of_fuel: Cell::new(false),
            ends_on_growth_failure: Cell::new(false),
            starts_itself: Cell::new(false),
            program: None,
            spoilt: Cell::new(false),
            pending: Cell::new(None),
            yields: Cell::new(false),
            id: next_ids(),
            extras: OnceCell::new(),
        }
    }

    /// Has the store dropped with its instance, instead of being kept for another.
    pub(crate) fn spoil(&self) {
        self.spoilt.set(true);
    }

    /// Whether the store could be kept for another instance: no guest waits in it.
    pub(crate) fn is_whole(&self) -> bool {
        // A kill switch knows its run; a preempt switch knows the guest by these words, and would hit the next one.
        let known_to_others = !self.room.as_ptr().is_null() && Arc::strong_count(&self.limits) > 1;
        !self.spoilt.get()
            && self.depth.get() == 0
            && self.running.get().is_null()
            && !known_to_others
    }

    /// Drops what the embedder gave to the instance.
    pub(crate) fn forget_embedder(&mut self) {
        self.embed.clear();
        if let Some(extras) = self.extras.get_mut() {
            extras.forget_embedder();
        }
        self.yielded.set(None);
    }

    /// Makes everything but the first member what [`Store::new`] makes it. Every field is named here, so that
    /// a new one is not forgotten.
    pub(crate) fn renew(&mut self) {
        let Self {
            limits,
            room: _,
            keyed: _,
            fuel,
            engine: _,
            region_limits: _,
            members,
            memories,
            wait_hook,
            embed,
            running,
            waiting,
            depth,
            under_host,
            state,
            members_started,
            parked,
            suspension,
            yielded,
            catch_panics,
            is_awaited,
            waits_for_fuel,
            is_out_of_fuel,
            ends_on_growth_failure,
            starts_itself,
            program: _,
            spoilt: _,
            pending,
            yields,
            id,
            extras,
        } = self;
        let (account, count) = Account::unlimited();
        *fuel = account;
        limits.renew();
        limits.set_fuel(count);
        let main = members.first().map_or(0, |main| {
            main.own_memories().len() + main.host_memories().count()
        });
        memories.truncate(main);
        // Whoever still has it names a run that is over; a task that waits in it is nobody's any more.
        if let Some(hook) = wait_hook.get_mut() {
            match Arc::get_mut(hook) {
                Some(hook) => *hook = WaitHook::default(),
                None => drop(wait_hook.take()),
            }
        }
        embed.clear();
        running.set(std::ptr::null());
        waiting.get_mut().clear();
        depth.set(0);
        under_host.set(false);
        state.set(State::Ready);
        members_started.set(true);
        parked.set(None);
        suspension.renew();
        yielded.take();
        catch_panics.set(false);
        is_awaited.set(false);
        waits_for_fuel.set(false);
        is_out_of_fuel.set(false);
        ends_on_growth_failure.set(false);
        starts_itself.set(false);
        pending.set(None);
        yields.set(false);
        if let Some(extras) = extras.get_mut() {
            extras.renew();
        }
        *id += 1;
        if id.is_multiple_of(IDS_AT_ONCE) {
            *id = next_ids();
        }
    }

    /// A number that no other store of this process has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Keeps why the guest is to be left, and has the trampoline leave it.
    pub(crate) fn raise(&self, outcome: Outcome) {
        self.yields.set(false);
        self.limits.request_leave(outcome.is_exception());
        self.pending.set(Some(outcome));
    }

    /// Has the trampoline leave the guest, because a host function suspends it and hands out this.
    #[inline]
    pub(crate) fn raise_yield(&self, val: YieldedVal) {
        self.yielded.set(Some(val));
        self.yields.set(true);
        self.limits.request_leave(false);
    }

    /// Whether the guest was left because a host function suspends it. The next time that is asked it is not.
    #[inline]
    pub(crate) fn take_yield(&self) -> bool {
        let yields = self.yields.get();
        if yields {
            self.yields.set(false);
            self.limits.clear_request();
        }
        yields
    }

    /// Whether a reason to leave the guest is there.
    pub(crate) fn is_raised(&self) -> bool {
        self.limits.leave_requested()
    }

    /// Whether the reason to leave the guest is an exception.
    pub(crate) fn throws(&self) -> bool {
        self.limits.is_thrown()
    }

    /// Takes why the guest was left.
    pub(crate) fn take_outcome(&self) -> Option<Outcome> {
        self.limits.clear_request();
        self.pending.take()
    }

    /// The context of a type.
    pub(crate) fn embed_cell<T: Any>(&self) -> Option<&EmbedCell> {
        self.embed.get(TypeId::of::<T>())
    }

    /// The member whose memory 0 begins at an address.
    pub(crate) fn member_at(&self, vmctx: usize) -> Option<&Rc<Record>> {
        self.members.iter().find(|member| member.vmctx() == vmctx)
    }

    /// Forgets references that only a guest could name: of its tables nothing is left but what they begin
    /// with.
    pub(crate) fn forget_references(&mut self) {
        if let Some(extras) = self.extras.get_mut() {
            extras.forget_references();
        }
    }

    /// Forgets the names of members.
    pub(crate) fn forget_names(&mut self) {
        if let Some(extras) = self.extras.get_mut() {
            extras.names.clear();
        }
    }

    /// What few instances have, made if it is not there.
    pub(crate) fn extras(&self) -> &Extras {
        self.extras.get_or_init(Box::default)
    }

    /// What few instances have, to be changed, made if it is not there.
    pub(crate) fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_init(Box::default);
        self.extras.get_mut().expect("it has just been made")
    }

    /// What few instances have, if it is there. Can be called in a signal handler of the guest's thread.
    pub(crate) fn known_extras(&self) -> Option<&Extras> {
        self.extras.get().map(|extras| &**extras)
    }

    /// Exceptions that are referred to.
    pub(crate) fn exceptions(&self) -> &Exceptions {
        &self.extras().exceptions
    }

    /// How another thread ends a wait of the guest.
    pub(crate) fn wait_hook(&self) -> &Arc<WaitHook> {
        self.wait_hook.get_or_init(Arc::default)
    }

    /// The same, if anybody has asked for it: nobody waits, or can be woken, without it.
    pub(crate) fn known_wait_hook(&self) -> Option<&Arc<WaitHook>> {
        self.wait_hook.get()
    }

    /// Adds a module's record; records never leave.
    pub(crate) fn add_member(&mut self, record: Rc<Record>) {
        let memories = record.own_memories().iter().chain(record.host_memories());
        let memories = memories.map(|memory| memory.range(self.engine.tunables()));
        // Most stores have one of each for ever.
        self.memories.reserve_exact(memories.size_hint().0);
        self.memories.extend(memories);
        self.members.reserve_exact(1);
        self.members.push(record);
    }

    /// Calls a function reference from the host.
    pub(crate) fn call_func(&self, func: Func, args: &[Val]) -> Result<Vec<Val>, Error> {
        let raw = self.func_to_raw(Some(func))?;
        let func_ref = FuncRefPtr::known(raw).ok_or(Error::ForeignReference)?;
        let (record, index) = self.locate(func_ref).ok_or(Error::ForeignReference)?;
        record.call(index, args)
    }

    /// Checks that a value may stand where one of a type belongs.
    pub(crate) fn check_value(&self, value: &Val, expected: ValType) -> Result<(), Error> {
        // A reference of another store is refused as that.
        self.val_to_slot(value)?;
        if self.fits(value, expected) {
            return Ok(());
        }
        Err(Error::ValueType {
            expected,
            found: self.type_of(value),
        })
    }

    /// A member that has a function, and the function's index there.
    fn locate(&self, ptr: FuncRefPtr) -> Option<(&Rc<Record>, FuncIdx)> {
        let func_ref = ptr.get();
        if func_ref.kind == KIND_GUEST {
            let member = self.member_at(func_ref.ctx)?;
            return Some((member, member.module().func_at(func_ref.body)?));
        }
        // A host function is known by its environment; any member that imports it will do.
        self.members
            .iter()
            .find_map(|member| Some((member, member.import_of_env(func_ref.ctx)?)))
    }

    /// The type of a function.
    pub(crate) fn func_type(&self, ptr: FuncRefPtr) -> Option<&FuncType> {
        let (record, index) = self.locate(ptr)?;
        Some(record.module().info().func_type(index))
    }

    /// The backtrace of a guest that was left at a point.
    pub(crate) fn backtrace(&self, pcs: &[usize]) -> WasmBacktrace {
        let limit = self.region_limits.backtrace_frames;
        let mut backtrace = WasmBacktrace::default();
        for &pc in pcs {
            if backtrace.frames.len() < limit {
                backtrace.frames.extend(self.frame(pc));
            } else if self
                .members
                .iter()
                .any(|m| m.module().func_at(pc).is_some())
            {
                backtrace.omitted += 1;
            }
        }
        backtrace
    }

    fn frame(&self, pc: usize) -> Option<Frame> {
        let in_code = |member: &Rc<Record>| member.module().text_offset(pc).is_some();
        let position = self.members.iter().position(in_code)?;
        let module = self.members[position].module();
        let func = module.func_at(pc)?;
        let wasm_offset = module.wasm_offset(pc);
        Some(Frame {
            module: module.name().map(str::to_owned),
            func_index: func.as_u32(),
            func_name: module.func_name(func).map(str::to_owned),
            wasm_offset,
            func_offset: wasm_offset.and_then(|at| at.checked_sub(module.body_offset(func)?)),
            member: position as u32,
            with_lines: module.has_dwarf().then(|| module.clone()),
        })
    }

    /// What is known of an access at an address by code at a pc: which memory it missed, as the module of
    /// that code counts them.
    pub(crate) fn memory_info(&self, pc: usize, addr: usize) -> Option<Box<TrapInfo>> {
        self.members
            .iter()
            .filter(|member| member.module().text_offset(pc).is_some())
            .find_map(|member| {
                let count = member.module().info().memories.len() as u32;
                (0..count).find_map(|memory| {
                    let at = member.address_in_memory(MemoryIdx::new(memory), addr)?;
                    Some(member.outside_memory(memory, at))
                })
            })
    }

    /// A fault as the embedder is told it.
    pub(crate) fn fault(
        &self,
        code: TrapCode,
        info: Option<Box<TrapInfo>>,
        pcs: &[usize],
    ) -> Error {
        let backtrace = self.backtrace(pcs);
        Error::RuntimeFault(Box::new(FaultDetails {
            code,
            info,
            backtrace,
        }))
    }

    /// A fault of a guest that stood somewhere.
    pub(crate) fn fault_at(&self, code: TrapCode, backtrace: WasmBacktrace) -> Error {
        Error::RuntimeFault(Box::new(FaultDetails {
            code,
            info: None,
            backtrace,
        }))
    }
}

/// Ids that a store takes at once, for the instances that it will be of: threads don't meet at the counter.
const IDS_AT_ONCE: u64 = 1024;

/// The first of so many ids that no other store has.
fn next_ids() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(IDS_AT_ONCE);
    NEXT.fetch_add(IDS_AT_ONCE, Ordering::Relaxed)
}

impl References for Store {
    fn func_to_raw(&self, func: Option<Func>) -> Result<u64, Error> {
        match func {
            None => Ok(0),
            Some(func) if func.store == self.id => Ok(func.ptr.0),
            Some(_) => Err(Error::ForeignReference),
        }
    }

    fn func_type_id(&self, func: Func) -> Option<u32> {
        let raw = self.func_to_raw(Some(func)).ok()?;
        Some(FuncRefPtr::known(raw)?.get().type_id)
    }

    fn func_from_raw(&self, raw: u64) -> Option<Func> {
        (raw != 0).then_some(Func {
            store: self.id,
            ptr: FuncRefAddr(raw),
        })
    }

    fn exn_to_raw(&self, exn: Option<&ExnRef>) -> Result<u64, Error> {
        match exn {
            None => Ok(0),
            Some(exn) if exn.store == self.id => Ok(exn.handle()),
            Some(_) => Err(Error::ForeignReference),
        }
    }

    fn exn_from_raw(&self, raw: u64) -> Option<ExnRef> {
        let root = self.known_extras()?.exceptions.root(raw)?;
        Some(ExnRef {
            store: self.id,
            root,
        })
    }

    fn extern_to_raw(&self, object: Option<&ExternRef>) -> u64 {
        object.map_or(0, |object| self.extern_handle(object))
    }

    fn extern_from_raw(&self, raw: u64) -> Option<ExternRef> {
        self.extern_of(raw)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.disarm();
        self.limits.words().renew();
        // Members name each other (imports); the later ones name the earlier ones only, so dropping
        // them in reverse frees each as it goes.
        self.forget_names();
        while self.members.pop().is_some() {}
    }
}

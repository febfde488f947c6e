//! The runtime of Selvedge: from a compiled module to a guest that runs, and back.
//!
//! There is no compiler in here: a program that only loads artifacts links none.
//!
//! ```text
//! engine  module  program          what is loaded and linked; shared, immutable
//! region/                          address space for instances, handed out and taken back
//! instance/  memory table value    one guest and what the host may do with it
//! host/                            host functions, and what they see of the guest
//! fault/  traphandlers/            what went wrong, as data; catching and raising traps
//! ------------------------------------------------------------- unsafe rooms below
//! vm/                              structures shared with generated code; entering and leaving it
//! code/  stack/                    executable text; guest stacks
//! sys/  arch/                      the operating system; the processor
//! primitive                        atomics and locks, which model checks replace
//! ```
//!
//! A room uses only what stands below it. Every file outside the rooms is free of `unsafe`.

mod arch;
mod code;
mod engine;
mod error;
mod fault;
mod host;
mod instance;
mod module;
mod primitive;
mod program;
mod region;
mod stack;
mod stop;
mod sys;
pub mod traphandlers;
mod value;
mod vm;

pub use engine::Engine;
pub use error::Error;
pub use fault::details::{FaultDetails, Frame, TrapInfo, WasmBacktrace};
pub use fault::fatal::FatalFault;
pub use fault::lines::SourceLine;
pub use host::error::{HostError, PanicPayload, TerminationDetails};
pub use host::func::{HostReturn, IntoHostFunc, WasmParams, WasmResults, WasmTy};
pub use host::future::{Awaiting, RunAsync};
pub use host::guest_ptr::{GuestAccessError, GuestPtr, GuestSlice, GuestValue};
pub use host::hostcall::Hostcall;
pub use host::linker::Linker;
pub use host::shared_memory::{SharedMemory, WaitResult};
pub use host::suspend::{Flow, Yield, YieldedVal};
pub use host::tag::{Exception, Tag, UncaughtException};
pub use host::typed_future::CallAsync;
pub use host::vmctx::{HeapRef, HeapRefMut, Vmctx};
pub use instance::builder::InstanceBuilder;
pub use instance::call::TypedFunc;
pub use instance::globals::{Globals, GlobalsMut};
pub use instance::growth::{Growing, Growth, Limiter};
pub use instance::handle::InstanceHandle;
pub use instance::heap_words::{HeapU32Ref, HeapU32RefMut};
pub use instance::permission::{AsyncLimiter, Permission};
pub use instance::{Instance, Member};
pub use module::{ExportType, ImportType, Module};
pub use program::Program;
pub use region::Region;
pub use region::alloc::AllocStrategy;
pub use region::limits::Limits;
pub use region::metrics::{RegionMetrics, ResetCounts};
pub use region::options::{RegionOptions, WhenFull};
pub use selvedge_artifact::traps::TrapCode;
pub use selvedge_artifact::tunables::Tunables;
pub use selvedge_artifact::types::{
    ExternType, FuncType, GlobalType, HeapType, MemoryType, RefType, TableType, ValType,
};
pub use stop::deadline::EpochDecision;
pub use stop::kill::{KillError, KillSuccess, KillSwitch};
pub use stop::preempt::PreemptSwitch;
pub use stop::ticker::EpochTicker;
pub use value::{ExnRef, ExternRef, Func, RunResult, UntypedRetVal, Val};
pub use vm::signal_handler::{SignalBehavior, SignalFacts, SignalHandler};

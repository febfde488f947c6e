//! Selvedge runs other people's code inside your process: it compiles WebAssembly to native code,
//! gives each program its own memory and stack, and turns whatever goes wrong inside into an
//! ordinary `Err`.
//!
//! ```
//! use selvedge::{Engine, Limits, Linker, Region, Settings, Vmctx};
//!
//! fn main() -> Result<(), selvedge::Error> {
//!     // A module, as Wasm or as text, is compiled once.
//!     let engine = Engine::new(&Settings::default())?;
//!     let module = engine.compile(
//!         br#"(module
//!             (import "host" "scale" (func $scale (param i32) (result i32)))
//!             (func (export "area") (param i32 i32) (result i32)
//!                 (i32.mul (call $scale (local.get 0)) (call $scale (local.get 1)))))"#,
//!     )?;
//!
//!     // Its imports are found in a linker, where the host has put its functions.
//!     let mut linker = Linker::new(&engine);
//!     linker.func("host", "scale", |_: &Vmctx<'_>, n: i32| n * 10)?;
//!     let program = linker.program(&module)?;
//!
//!     // A region has room for some instances; a new one takes a microsecond.
//!     let region = Region::new(&engine, 4, &Limits::default())?;
//!     let mut instance = region.new_instance(&program)?;
//!     let area = instance.typed_func::<(i32, i32), i32>("area")?;
//!     assert_eq!(area.call(&mut instance, (3, 4))?, 1200);
//!     Ok(())
//! }
//! ```
//!
//! From a file to a result: an [`Engine`] compiles bytes to a [`Module`]; a [`Linker`] resolves the
//! module's imports and makes a [`Program`]; a [`Region`] instantiates programs, each in a slot with
//! its own [`Limits`]; an [`Instance`] is called by name ([`Instance::run`]) or through a
//! [`TypedFunc`]. A host function gets a [`Vmctx`] first, through which it reaches the guest's memory.
//! A guest that traps gives [`RuntimeError::RuntimeFault`] with its backtrace.
//!
//! This crate only joins the parts. An embedder that never compiles, but loads artifacts, may use
//! `selvedge-runtime` alone, in which there is no compiler.
#![forbid(unsafe_code)]

mod engine;
mod error;
mod inspect;
mod scheduler;
mod source;

// Engine: settings and the compiler.
pub use engine::{Engine, Settings};
pub use inspect::Summary;
pub use selvedge_compile::{
    Cpu, Dump, FuelCosts, Identity, Metering, OptLevel, Proposal, Proposals, Tunables,
};
pub use source::Source;

// Modules and their types.
pub use selvedge_runtime::{
    ExportType, ExternType, FuncType, GlobalType, HeapType, ImportType, MemoryType, Module,
    RefType, TableType, ValType,
};

// Linking: host functions and other modules' exports under names.
pub use selvedge_runtime::{
    Flow, Globals, GlobalsMut, GuestAccessError, GuestPtr, GuestSlice, GuestValue, HeapRef,
    HeapRefMut, HeapU32Ref, HeapU32RefMut, HostError, HostReturn, IntoHostFunc, Linker,
    PanicPayload, Program, TerminationDetails, Vmctx, WasmParams, WasmResults, WasmTy, Yield,
};

// Host functions that know the names of their imports.
pub use selvedge_macros::hostcall;
pub use selvedge_runtime::Hostcall;

/// Declares a struct that lies in guest memory.
pub use selvedge_runtime::guest_struct;

// Memories that instances on several threads have at the same time.
// Stopping guests from outside, and guests that wait for futures.
pub use selvedge_runtime::{
    Awaiting, CallAsync, EpochDecision, EpochTicker, KillError, KillSuccess, KillSwitch,
    PreemptSwitch, RunAsync,
};
pub use selvedge_runtime::{SharedMemory, WaitResult};

// Regions: address space for instances.
pub use selvedge_runtime::{
    AllocStrategy, AsyncLimiter, Growing, Growth, Limiter, Limits, Permission, Region,
    RegionMetrics, RegionOptions, ResetCounts, WhenFull,
};

// Instances and what they are called with.
pub use selvedge_runtime::{
    ExnRef, ExternRef, Func, Instance, InstanceBuilder, InstanceHandle, Member, RunResult,
    TypedFunc, UntypedRetVal, Val, YieldedVal,
};

// Many guests on a few threads.
pub use scheduler::{Canceller, Ending, Outcome, Scheduler, Task, Ticket};

// Errors and faults.
pub use error::Error;
pub use selvedge_artifact::Error as ArtifactError;
pub use selvedge_artifact::write::Compiled;
pub use selvedge_compile::Error as CompileError;
pub use selvedge_runtime::{
    Error as RuntimeError, Exception, FatalFault, FaultDetails, Frame, SignalBehavior, SignalFacts,
    SignalHandler, SourceLine, Tag, TrapCode, TrapInfo, UncaughtException, WasmBacktrace,
};

// Catching and raising traps, and how long guest stacks are.
pub use selvedge_runtime::traphandlers;

/// WASI preview 1: what a guest is given of the world, and the functions that give it.
pub mod wasi {
    pub use selvedge_wasi::*;
}

//! Runs one script of the official suite, directive by directive.
//!
//! All modules of a script live in one instance, whose first member is the suite's `spectest` module.
//! A failed directive is recorded and the script goes on, so that a file's count is of all it asserts.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::thread;

use selvedge::{
    CompileError, Engine, InstanceHandle, Limits, Linker, Member, Module, Proposal, Region,
    RegionOptions, RuntimeError, Settings, TrapCode, Val, Vmctx,
};
use wast::lexer::Lexer;
use wast::parser::ParseBuffer;
use wast::token::Id;
use wast::{QuoteWat, Wast, WastDirective, WastExecute, WastInvoke, Wat};

use crate::error::Error;
use crate::threads::Threads;
use crate::values::{self, HostObjects};

/// Slots that one script may take: each of its modules keeps one.
const SLOTS: u32 = 1024;

/// Why scripts older than multi-memory and reference types call invalid what is now valid: a second memory
/// or table, and the byte that has become a memory's index and may be written long. Newer scripts do not
/// use these words.
const VALID_SINCE: &[&str] = &[
    "multiple memories",
    "multiple tables",
    "zero byte expected",
    "zero flag expected",
];

/// What a script counted.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Directives that did what they should.
    pub passed: usize,
    /// Those that did not.
    pub failures: Vec<Failure>,
}

/// A directive that did not do what it should.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Line of the script, the first being 1.
    pub line: usize,
    /// Column of the line, the first being 1.
    pub column: usize,
    /// What was expected and what came.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Somebody who looks on while a script runs, to learn more than whether it passes.
pub trait Observer {
    /// The script is about to begin, in an instance that holds nothing of it yet.
    fn begin(&mut self, instance: &mut InstanceHandle) {
        let _ = instance;
    }

    /// A module that is about to be compiled and linked, as a binary; what is to be compiled in its place.
    fn module(&mut self, wasm: Vec<u8>) -> Vec<u8> {
        wasm
    }

    /// A directive was done, at a line. The instance holds all modules of the script; `linked` is the one that
    /// the directive has added, if it has.
    fn directive(&mut self, line: usize, instance: &mut InstanceHandle, linked: Option<Member>) {
        let _ = (line, instance, linked);
    }
}

/// The definitions that the suite expects of every host (its `spectest` module).
const SPECTEST: &str = r#"(module $spectest
    (func (export "print") (import "host" "print"))
    (func (export "print_i32") (import "host" "print_i32") (param i32))
    (func (export "print_i64") (import "host" "print_i64") (param i64))
    (func (export "print_f32") (import "host" "print_f32") (param f32))
    (func (export "print_f64") (import "host" "print_f64") (param f64))
    (func (export "print_i32_f32") (import "host" "print_i32_f32") (param i32 f32))
    (func (export "print_f64_f64") (import "host" "print_f64_f64") (param f64 f64))
    (global (export "global_i32") i32 (i32.const 666))
    (global (export "global_i64") i64 (i64.const 666))
    (global (export "global_f32") f32 (f32.const 666.6))
    (global (export "global_f64") f64 (f64.const 666.6))
    (table (export "table") 10 20 funcref)
    (memory (export "memory") 1 2)"#;

/// What the suite expects besides where memories can be shared.
const SHARED_MEMORY: &str = r#"(memory (export "shared_memory") 1 2 shared)"#;

/// What all threads of a script have in common.
#[derive(Clone, Copy)]
pub(crate) struct World<'scope, 'env> {
    pub(crate) scope: &'scope thread::Scope<'scope, 'env>,
    source: &'env str,
    settings: &'env Settings,
}

/// One thread of a script.
pub(crate) struct Runner<'scope, 'env> {
    pub(crate) world: World<'scope, 'env>,
    pub(crate) outcome: Outcome,
    pub(crate) threads: Threads<'scope>,
    pub(crate) engine: Engine,
    pub(crate) linker: Linker,
    pub(crate) instance: InstanceHandle,
    pub(crate) names: HashMap<String, Member>,
    definitions: HashMap<String, Rc<Module>>,
    last_definition: Option<Rc<Module>>,
    current: Option<Member>,
    objects: HostObjects,
    observer: Option<&'env mut dyn Observer>,
    /// What the directive at hand has linked.
    linked: Option<Member>,
}

/// Runs a script. Directives that fail are counted, and the script goes on.
///
/// # Errors
///
/// If the script does not parse, or what every script expects can't be made.
pub fn run(source: &str, settings: &Settings) -> Result<Outcome, Error> {
    run_with(source, settings, None)
}

/// As [`run`], and somebody looks on. What threads of the script do is not shown.
///
/// # Errors
///
/// As [`run`].
pub fn run_observed(
    source: &str,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<Outcome, Error> {
    run_with(source, settings, Some(observer))
}

fn run_with(
    source: &str,
    settings: &Settings,
    observer: Option<&mut dyn Observer>,
) -> Result<Outcome, Error> {
    let mut lexer = Lexer::new(source);
    lexer.allow_confusing_unicode(true);
    let text = |error| Error::text(error, source);
    let buffer = ParseBuffer::new_with_lexer(lexer).map_err(text)?;
    let script = wast::parser::parse::<Wast<'_>>(&buffer).map_err(text)?;
    let directives = script.directives;
    thread::scope(|scope| {
        let engine = Engine::new(settings)?;
        let world = World {
            scope,
            source,
            settings,
        };
        let mut runner = Runner::new(engine, world)?;
        // Not the option as it is: what it borrows has to live shorter than it says.
        if let Some(observer) = observer {
            observer.begin(&mut runner.instance);
            runner.observer = Some(observer);
        }
        Ok(runner.run(directives))
    })
}

impl<'scope, 'env> Runner<'scope, 'env> {
    /// Runs directives, and waits for threads that nobody waited for.
    pub(crate) fn run(mut self, directives: Vec<WastDirective<'env>>) -> Outcome {
        for directive in directives {
            let (line, column) = directive.span().linecol_in(self.world.source);
            let result = self.directive(directive);
            let linked = self.linked.take();
            if let Some(observer) = &mut self.observer {
                observer.directive(line + 1, &mut self.instance, linked);
            }
            match result {
                Ok(()) => self.outcome.passed += 1,
                Err(message) => self.outcome.failures.push(Failure {
                    line: line + 1,
                    column: column + 1,
                    message,
                }),
            }
        }
        self.wait_for_all();
        self.outcome
    }

    pub(crate) fn new(engine: Engine, world: World<'scope, 'env>) -> Result<Self, Error> {
        let mut linker = Linker::new(&engine);
        linker.func("host", "print", |_: &Vmctx<'_>| ())?;
        linker.func("host", "print_i32", |_: &Vmctx<'_>, _: i32| ())?;
        linker.func("host", "print_i64", |_: &Vmctx<'_>, _: i64| ())?;
        linker.func("host", "print_f32", |_: &Vmctx<'_>, _: f32| ())?;
        linker.func("host", "print_f64", |_: &Vmctx<'_>, _: f64| ())?;
        linker.func("host", "print_i32_f32", |_: &Vmctx<'_>, _: i32, _: f32| ())?;
        linker.func("host", "print_f64_f64", |_: &Vmctx<'_>, _: f64, _: f64| ())?;
        let proposals = world.settings.proposals();
        let has_shared = [Proposal::Threads, Proposal::MultiMemory]
            .into_iter()
            .all(|proposal| proposals.is_enabled(proposal));
        let shared = if has_shared { SHARED_MEMORY } else { "" };
        let spectest = engine.compile(format!("{SPECTEST}{shared})").as_bytes())?;
        let mut options = RegionOptions::default();
        options.dense = world.settings.is_for_dense_regions();
        let region = Region::with_options(&engine, SLOTS, &Limits::default(), &options)?;
        let mut instance = region.new_instance(&linker.program(&spectest)?)?;
        instance.set_member_name("spectest", Member::MAIN)?;
        Ok(Self {
            world,
            outcome: Outcome::default(),
            threads: Threads::default(),
            engine,
            linker,
            instance,
            names: HashMap::new(),
            definitions: HashMap::new(),
            last_definition: None,
            current: None,
            objects: HostObjects::default(),
            observer: None,
            linked: None,
        })
    }

    fn directive(&mut self, directive: WastDirective<'env>) -> Result<(), String> {
        match directive {
            WastDirective::Module(mut module) => {
                let name = name_of(&module);
                let wasm = module.encode().map_err(|e| e.to_string())?;
                let wasm = self.observed(wasm);
                let module = self.compile(&wasm)?;
                let member = self.link(&module).map_err(|e| e.to_string())?;
                self.set_current(name, member);
                Ok(())
            }
            WastDirective::ModuleDefinition(mut module) => {
                let name = name_of(&module);
                let wasm = module.encode().map_err(|e| e.to_string())?;
                let wasm = self.observed(wasm);
                let module = Rc::new(self.compile(&wasm)?);
                if let Some(name) = name {
                    self.definitions.insert(name, module.clone());
                }
                self.last_definition = Some(module);
                Ok(())
            }
            WastDirective::ModuleInstance {
                instance, module, ..
            } => {
                let definition = match module {
                    Some(id) => self.definitions.get(id.name()).cloned(),
                    None => self.last_definition.clone(),
                };
                let definition = definition.ok_or("there is no such module definition")?;
                let member = self.link(&definition).map_err(|e| e.to_string())?;
                self.set_current(instance.map(|id| id.name().to_owned()), member);
                Ok(())
            }
            WastDirective::Register { name, module, .. } => {
                let member = self.member(module)?;
                self.instance
                    .set_member_name(name, member)
                    .map_err(|e| e.to_string())
            }
            WastDirective::Invoke(invoke) => {
                self.invoke(&invoke).map(drop).map_err(|e| e.to_string())
            }
            WastDirective::AssertReturn { exec, results, .. } => {
                let found = self.execute(exec).map_err(|e| e.to_string())?;
                values::check(&found, &results)
            }
            WastDirective::AssertTrap { exec, message, .. } => {
                expect_trap(self.execute(exec), message)
            }
            WastDirective::AssertExhaustion { call, message, .. } => {
                expect_trap(self.invoke(&call), message)
            }
            WastDirective::AssertMalformed {
                module, message, ..
            }
            | WastDirective::AssertInvalid {
                module, message, ..
            } => self.expect_invalid(module, message),
            WastDirective::AssertUnlinkable { module, .. } => self.expect_unlinkable(module),
            // Custom sections and annotations have no meaning to this engine.
            WastDirective::AssertMalformedCustom { .. }
            | WastDirective::AssertInvalidCustom { .. } => Ok(()),
            WastDirective::AssertException { exec, .. } => expect_exception(self.execute(exec)),
            WastDirective::AssertSuspension { .. } => {
                Err("stack switching is not built yet".to_owned())
            }
            WastDirective::Thread(thread) => self.spawn(thread),
            WastDirective::Wait { thread, .. } => self.wait_for(thread),
        }
    }

    pub(crate) fn compile(&self, wasm: &[u8]) -> Result<Module, String> {
        self.engine.compile(wasm).map_err(|e| e.to_string())
    }

    pub(crate) fn link(&mut self, module: &Module) -> Result<Member, RuntimeError> {
        let member = self.instance.link(&self.linker, module)?;
        self.linked = Some(member);
        Ok(member)
    }

    /// What the observer wants compiled in a module's place.
    fn observed(&mut self, wasm: Vec<u8>) -> Vec<u8> {
        match &mut self.observer {
            Some(observer) => observer.module(wasm),
            None => wasm,
        }
    }

    fn set_current(&mut self, name: Option<String>, member: Member) {
        if let Some(name) = name {
            self.names.insert(name, member);
        }
        self.current = Some(member);
    }

    pub(crate) fn member(&self, id: Option<Id<'_>>) -> Result<Member, String> {
        match id {
            Some(id) => self.names.get(id.name()).copied(),
            None => self.current,
        }
        .ok_or_else(|| format!("there is no module {:?}", id.map(|id| id.name().to_owned())))
    }

    fn execute(&mut self, exec: WastExecute<'_>) -> Result<Vec<Val>, NoValues> {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Wat(mut wat) => {
                let wasm = wat.encode().map_err(|e| NoValues::Other(e.to_string()))?;
                let wasm = self.observed(wasm);
                let module = self.compile(&wasm).map_err(NoValues::Other)?;
                self.link(&module)?;
                Ok(Vec::new())
            }
            WastExecute::Get { module, global, .. } => {
                let member = self.member(module).map_err(NoValues::Other)?;
                Ok(vec![self.instance.member_global(member, global)?])
            }
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>) -> Result<Vec<Val>, NoValues> {
        let member = self.member(invoke.module).map_err(NoValues::Other)?;
        let args: Result<Vec<Val>, String> = invoke
            .args
            .iter()
            .map(|arg| values::arg(&mut self.objects, arg))
            .collect();
        let result =
            self.instance
                .run_member(member, invoke.name, &args.map_err(NoValues::Other)?)?;
        Ok(result.unwrap_returned().into_values())
    }

    /// The module must be refused as malformed or invalid; that it uses what is not supported is not
    /// the answer asked for.
    fn expect_invalid(&self, mut module: QuoteWat<'_>, message: &str) -> Result<(), String> {
        // Text that does not even parse was refused by the reader of the text format.
        let Ok(wasm) = module.encode() else {
            return Ok(());
        };
        match self.engine.precompile(&wasm) {
            Err(selvedge::Error::Compile(CompileError::Invalid { .. })) => Ok(()),
            // Bytes that do not even begin as a module does.
            Err(selvedge::Error::NotWasm { .. } | selvedge::Error::Component) => Ok(()),
            // Instructions of a draft are none of the standard's; to say which draft is better than no name.
            Err(selvedge::Error::Compile(CompileError::Unsupported { feature, .. }))
                if feature.starts_with("legacy-exceptions") =>
            {
                Ok(())
            }
            Ok(_) if VALID_SINCE.contains(&message) => Ok(()),
            Err(other) => Err(format!("expected an invalid module, got: {other}")),
            Ok(_) => Err("expected an invalid module, it compiled".to_owned()),
        }
    }

    fn expect_unlinkable(&mut self, mut module: Wat<'_>) -> Result<(), String> {
        let wasm = module.encode().map_err(|e| e.to_string())?;
        let module = self.compile(&wasm)?;
        match self.link(&module) {
            Err(RuntimeError::UnknownImport { .. } | RuntimeError::ImportType { .. }) => Ok(()),
            Err(other) => Err(format!("expected a link error, got: {other}")),
            Ok(_) => Err("expected a link error, it linked".to_owned()),
        }
    }
}

/// Why an action gave no values.
#[derive(Debug)]
enum NoValues {
    Runtime(RuntimeError),
    Other(String),
}

impl From<RuntimeError> for NoValues {
    fn from(error: RuntimeError) -> Self {
        Self::Runtime(error)
    }
}

impl fmt::Display for NoValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

fn name_of(module: &QuoteWat<'_>) -> Option<String> {
    match module {
        QuoteWat::Wat(Wat::Module(module)) => module.id.map(|id| id.name().to_owned()),
        _ => None,
    }
}

fn expect_exception(result: Result<Vec<Val>, NoValues>) -> Result<(), String> {
    match result {
        Err(NoValues::Runtime(RuntimeError::UncaughtException(_))) => Ok(()),
        Ok(values) => Err(format!("expected an exception, it returned {values:?}")),
        Err(other) => Err(format!("expected an exception, got: {other}")),
    }
}

/// The trap must be the one that the script names; scripts give the beginning of the message.
fn expect_trap(result: Result<Vec<Val>, NoValues>, message: &str) -> Result<(), String> {
    let found = match result {
        Ok(values) => return Err(format!("expected trap {message:?}, it returned {values:?}")),
        Err(NoValues::Runtime(RuntimeError::RuntimeFault(fault))) => fault.code.message(),
        Err(NoValues::Runtime(RuntimeError::DataSegmentOutOfBounds)) => {
            TrapCode::HeapOutOfBounds.message()
        }
        Err(NoValues::Runtime(RuntimeError::ElemSegmentOutOfBounds)) => {
            TrapCode::TableOutOfBounds.message()
        }
        Err(other) => return Err(format!("expected trap {message:?}, got: {other}")),
    };
    if message.starts_with(found) || found.starts_with(message) {
        return Ok(());
    }
    Err(format!("expected trap {message:?}, got {found:?}"))
}

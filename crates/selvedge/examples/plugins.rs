//! A plug-in host: loads modules of users, gives each an account, calls their functions, and survives what they do.
//!
//! `cargo run -p selvedge --example plugins` runs the plug-ins below, `... -- FILE...` those of files.
#![forbid(unsafe_code)]

use std::io::Write;

use selvedge::{
    Engine, Error, GuestPtr, HostError, InstanceHandle, Limits, Linker, Region, RuntimeError,
    Settings, Vmctx, hostcall,
};

/// What plug-ins do when nobody names others: work, recurse without end, read what is not theirs, be greedy.
const PLUGINS: [(&str, &str); 4] = [
    (
        "double",
        r#"(module (import "host" "log" (func $log (param i32 i32))) (memory 1) (data (i32.const 8) "doubling")
            (func (export "price") (param i64) (result i64)
                (call $log (i32.const 8) (i32.const 8)) (i64.mul (local.get 0) (i64.const 2))))"#,
    ),
    (
        "endless",
        r#"(module (func $f (export "price") (param i64) (result i64)
            (i64.add (call $f (local.get 0)) (i64.const 1))))"#,
    ),
    (
        "nosy",
        r#"(module (import "host" "log" (func $log (param i32 i32))) (memory 1)
            (func (export "price") (param i64) (result i64)
                (call $log (i32.const 65530) (i32.const 100)) (local.get 0)))"#,
    ),
    (
        "greedy",
        r#"(module (memory 1) (func (export "price") (param i64) (result i64)
            (i64.extend_i32_s (memory.grow (i32.const 1000)))))"#,
    ),
];

/// What the host knows of one plug-in, and what host functions find.
struct Account {
    name: String,
    lines: Vec<String>,
}

/// A loaded plug-in.
struct Plugin {
    instance: InstanceHandle,
}

/// Loads and keeps plug-ins.
pub(crate) struct Host {
    engine: Engine,
    linker: Linker,
    region: Region,
    plugins: Vec<Plugin>,
}

impl Host {
    /// A host with room for some plug-ins, none of which gets more than a megabyte.
    pub(crate) fn new() -> Result<Self, Error> {
        let engine = Engine::new(&Settings::default())?;
        let mut linker = Linker::new(&engine);
        linker.hostcall::<log>()?;
        let mut limits = Limits::default();
        limits.total_memory_len = 1 << 20;
        limits.stack_len = 64 << 10;
        Ok(Self {
            region: Region::new(&engine, 16, &limits)?,
            engine,
            linker,
            plugins: Vec::new(),
        })
    }

    /// Compiles a user's module and makes an instance of it. Whatever is wrong with it is an error here.
    pub(crate) fn load(&mut self, name: &str, wasm: &[u8]) -> Result<(), Error> {
        let program = self.linker.program(&self.engine.compile(wasm)?)?;
        let account = Account {
            name: name.to_owned(),
            lines: Vec::new(),
        };
        let builder = self.region.instance_builder(&program);
        let instance = builder
            .with_embed_ctx(account)
            .terminate_on_growth_failure()
            .run_start_by_itself()
            .build()?;
        self.plugins.push(Plugin { instance });
        Ok(())
    }

    /// Asks all plug-ins for a price; a line for each answer, and for what each has logged.
    pub(crate) fn ask(&mut self, price: i64) -> Result<Vec<String>, Error> {
        let mut report = Vec::new();
        for plugin in &mut self.plugins {
            let answer = match plugin.price(price) {
                Ok(price) => price.to_string(),
                Err(error) => {
                    // It may go on, as if it were new.
                    plugin.instance.reset()?;
                    // What follows the first line of an error is its backtrace.
                    let text = error.to_string();
                    format!("failed, {}", text.lines().next().unwrap_or_default())
                }
            };
            if let Some(Ok(mut account)) = plugin.instance.get_embed_ctx_mut::<Account>() {
                report.append(&mut account.lines);
                report.push(format!("{}: {answer}", account.name));
            }
        }
        Ok(report)
    }
}

impl Plugin {
    fn price(&mut self, price: i64) -> Result<i64, RuntimeError> {
        let function = self.instance.typed_func::<i64, i64>("price")?;
        function.call(&mut self.instance, price)
    }
}

/// What plug-ins import: keeps a line of text from their memory, if it lies there.
#[hostcall(module = "host")]
fn log(vmctx: &Vmctx<'_>, at: GuestPtr<u8>, len: u32) -> Result<(), HostError> {
    let heap = vmctx.heap()?;
    let text = at.slice(len).text(&heap)?;
    let mut account = vmctx.get_embed_ctx_mut::<Account>()?;
    let line = format!("{} says {text:?}", account.name);
    account.lines.push(line);
    Ok(())
}

/// A host with the plug-ins of this file.
pub(crate) fn host_with_plugins() -> Result<Host, Error> {
    let mut host = Host::new()?;
    for (name, wat) in PLUGINS {
        host.load(name, wat.as_bytes())?;
    }
    Ok(host)
}

#[allow(dead_code, reason = "the test that includes this file calls the parts")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    let files: Vec<String> = std::env::args().skip(1).collect();
    let mut host = if files.is_empty() {
        host_with_plugins()?
    } else {
        Host::new()?
    };
    for file in files {
        if let Err(error) = host.load(&file, &std::fs::read(&file)?) {
            writeln!(out, "{file} is no plug-in: {error}")?;
        }
    }
    for line in host.ask(21)? {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

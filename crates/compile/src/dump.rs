//! IR and machine code as text, for tests and for people.

use std::fmt::Write;

use crate::codegen;
use crate::compiler::{Compiler, Worker};
use crate::emit::{func_symbol, symbol};
use crate::error::Error;
use crate::settings::{Dump, Settings};

/// Shows what becomes of a module: all functions with a body and then all trampolines, or only what
/// `filter` names, which is the index of a function or a symbol.
pub fn dump(
    wasm: &[u8],
    settings: &Settings,
    what: Dump,
    filter: Option<&str>,
) -> Result<String, Error> {
    let compiler = Compiler::new(wasm, settings)?;
    let places: Vec<usize> = match filter {
        None => (0..compiler.count()).collect(),
        Some(name) => places(&compiler, name)?,
    };
    let texts = crate::parallel::map(
        settings.parallel,
        places.len(),
        Worker::default,
        |worker, index| {
            let place = places[index];
            compiler.job(worker, place, |worker| one(&compiler, worker, place, what))
        },
    )?;
    Ok(texts.join("\n"))
}

/// Whether a line of the code generator's text stands for no machine code.
fn is_note(line: &str) -> bool {
    let name = line.split_whitespace().next();
    matches!(name, Some("unwind" | "uninit"))
}

fn places(compiler: &Compiler<'_>, name: &str) -> Result<Vec<usize>, Error> {
    let module = &compiler.module;
    let imported = module.info.imported.funcs as usize;
    let by_index = name
        .parse::<usize>()
        .ok()
        .and_then(|index| index.checked_sub(imported));
    if let Some(place) = by_index.filter(|place| *place < module.bodies.len()) {
        return Ok(vec![place]);
    }
    let places: Vec<usize> = (0..compiler.count())
        .filter(|place| symbol(module, *place) == name)
        .collect();
    if places.is_empty() {
        return Err(Error::NoSuchFunction {
            name: name.to_owned(),
        });
    }
    Ok(places)
}

fn one(
    compiler: &Compiler<'_>,
    worker: &mut Worker,
    place: usize,
    what: Dump,
) -> Result<String, Error> {
    let module = &compiler.module;
    let title = if place < module.bodies.len() {
        let index = module.info.imported.funcs as usize + place;
        format!("function {index}: {}", func_symbol(module, place))
    } else {
        format!("trampoline: {}", symbol(module, place))
    };
    compiler.translate(worker, place)?;
    let mut text = format!(";; {title}\n");
    match what {
        Dump::Clif => {
            // Writing to a string does not fail.
            let _ = write!(text, "{}", worker.context.func.display());
        }
        Dump::Asm => {
            let name = || symbol(module, place);
            let isa = compiler.isas.of(&worker.context.func);
            let asm = codegen::disassemble(isa, &mut worker.context, &name)?;
            for line in asm.lines().filter(|line| !is_note(line)) {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    Ok(text)
}

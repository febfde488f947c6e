//! `selvedge inspect`: what is in a module or an artifact, and the code that is made of a module.

use selvedge::{Dump, ExternType, Source, Summary};

use crate::args::InspectArgs;
use crate::commands::input::{self, Input};
use crate::exit_code::ExitCode;
use crate::report::Failure;

pub(super) fn run(args: &InspectArgs) -> Result<ExitCode, Failure> {
    let engine = super::engine(&args.compiler, args.count_fuel)?;
    let mut input = Input::open(&args.file)?;
    let name = input.name().clone();
    let dump = match (args.asm, args.clif) {
        (true, _) => Some(Dump::Asm),
        (_, true) => Some(Dump::Clif),
        _ => None,
    };
    let text = match dump {
        Some(_) if input.is_artifact() => return Err(Failure::DumpOfArtifact(name)),
        Some(what) => engine.dump(input.bytes()?, what, args.func.as_deref()),
        None => engine
            .inspect(input.bytes()?)
            .map(|summary| describe(&summary)),
    };
    super::print(&text.map_err(|error| input::refused(&name, error))?)?;
    Ok(ExitCode::Success)
}

/// The summary as text: a line a fact, lists indented and aligned.
fn describe(summary: &Summary) -> String {
    let kind = match summary.source {
        Source::Wasm => "module (binary format)",
        Source::Text => "module (text format)",
        _ => "artifact",
    };
    let mut text = format!("{kind}, {} bytes\n", summary.len);
    if let Some(identity) = &summary.identity {
        text.push_str(&format!("compiled by: selvedge {}\n", identity.producer));
        text.push_str(&format!("target: {}\n", identity.target));
        text.push_str(&format!(
            "cpu features: {}\n",
            identity.cpu_features.join(" ")
        ));
    }
    if let Some(name) = &summary.name {
        text.push_str(&format!("name: {name}\n"));
    }
    if let Some(len) = summary.snapshot_memory_len {
        text.push_str(&format!("snapshot: begins with {len} bytes of memory\n"));
    }
    text.push_str(&format!("functions with a body: {}\n", summary.funcs));
    let imports = summary.imports.iter();
    let imports =
        imports.map(|(module, name, ty)| [format!("{module:?} {name:?}"), ty.to_string()]);
    table(&mut text, "imports", imports);
    let exports = summary
        .exports
        .iter()
        .map(|(name, ty)| [format!("{name:?}"), ty.to_string()]);
    table(&mut text, "exports", exports);
    let defined = summary
        .defined
        .iter()
        .filter(|ty| !matches!(ty, ExternType::Global(_)));
    table(
        &mut text,
        "memories and tables",
        defined.map(|ty| [ty.to_string(), String::new()]),
    );
    let sections = summary
        .sections
        .iter()
        .map(|(name, len)| [name.clone(), format!("{len} bytes")]);
    table(&mut text, "sections", sections);
    text
}

/// Adds rows of two columns under a title, if there are any.
fn table(text: &mut String, title: &str, rows: impl Iterator<Item = [String; 2]>) {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|[name, _]| name.chars().count()).max();
    let Some(width) = width else { return };
    text.push_str(title);
    text.push_str(":\n");
    for [name, value] in rows {
        text.push_str(format!("  {name:width$}  {value}").trim_end());
        text.push('\n');
    }
}

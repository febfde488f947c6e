//! Which function `run` calls, and with what.

use selvedge::{ExternType, FuncType, Module, Val};

use crate::args::RunArgs;
use crate::report::{Failure, FileName};
use crate::values;

/// The function that makes a WASI command run.
const COMMAND_ENTRY: &str = "_start";
/// The function that makes a WASI reactor ready.
pub(super) const REACTOR_ENTRY: &str = "_initialize";

/// What is called of a module once it is instantiated.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// What makes a reactor ready.
    pub(super) initialize: Option<&'static str>,
    /// What is asked for; a module with nothing but a start section has none.
    pub(super) call: Option<Call<'a>>,
}

/// A call of an export.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) export: &'a str,
    pub(super) args: Vec<Val>,
    /// Whether the results are what the user wants to see.
    pub(super) print_results: bool,
}

impl<'a> Plan<'a> {
    /// What the command line asks to be called in this module.
    pub(super) fn new(
        args: &'a RunArgs,
        module: &Module,
        file: &FileName,
    ) -> Result<Self, Failure> {
        let Some(export) = args.invoke.as_deref() else {
            return Self::of_command(module, file);
        };
        let ty = match module.export_type(export) {
            Some(ExternType::Func(ty)) => ty,
            Some(ty) => {
                return Err(Failure::NotAFunction {
                    file: file.clone(),
                    name: export.to_owned(),
                    ty: Box::new(ty),
                });
            }
            None => {
                return Err(Failure::NoSuchExport {
                    file: file.clone(),
                    name: export.to_owned(),
                    funcs: exported_funcs(module),
                });
            }
        };
        let values = arguments(export, &ty, args)?;
        let initialize =
            (export != REACTOR_ENTRY && is_entry(module, REACTOR_ENTRY)).then_some(REACTOR_ENTRY);
        Ok(Self {
            initialize,
            call: Some(Call {
                export,
                args: values,
                print_results: true,
            }),
        })
    }

    fn of_command(module: &Module, file: &FileName) -> Result<Self, Failure> {
        if is_entry(module, COMMAND_ENTRY) {
            let call = Call {
                export: COMMAND_ENTRY,
                args: Vec::new(),
                print_results: false,
            };
            return Ok(Self {
                initialize: None,
                call: Some(call),
            });
        }
        if module.has_start() {
            return Ok(Self {
                initialize: None,
                call: None,
            });
        }
        Err(Failure::NoStart {
            file: file.clone(),
            funcs: exported_funcs(module),
        })
    }
}

/// Whether a module exports a function of this name that takes and gives nothing.
pub(super) fn is_entry(module: &Module, name: &str) -> bool {
    module.export_type(name) == Some(ExternType::Func(FuncType::default()))
}

pub(super) fn exported_funcs(module: &Module) -> Vec<(String, FuncType)> {
    let funcs = module.exports().filter_map(|export| match export.ty {
        ExternType::Func(ty) => Some((export.name.to_owned(), ty)),
        _ => None,
    });
    funcs.collect()
}

/// The words behind FILE as values of the function's parameter types.
fn arguments(name: &str, ty: &FuncType, args: &RunArgs) -> Result<Vec<Val>, Failure> {
    let words = args.guest_args();
    if words.len() != ty.params.len() {
        return Err(Failure::ArgumentCount {
            name: name.to_owned(),
            ty: ty.clone(),
            found: words.len(),
        });
    }
    let values = words
        .iter()
        .zip(&ty.params)
        .enumerate()
        .map(|(i, (word, &ty))| {
            let text = word.to_string_lossy();
            values::parse(&text, ty).map_err(|reason| Failure::Argument {
                name: name.to_owned(),
                position: i + 1,
                text: text.into_owned(),
                ty,
                reason,
            })
        });
    values.collect()
}

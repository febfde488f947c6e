//! `#[hostcall]`, re-exported by `selvedge`, whose paths it names.
//!
//! Of Rust's grammar it needs a function's head, so it reads tokens itself (`tokens`); what it doesn't
//! understand it leaves to the compiler.
#![forbid(unsafe_code)]

mod hostcall;
mod tokens;

use proc_macro::TokenStream;

/// Makes a free function a host function that knows its import's names.
///
/// The function is left as it is: it can be called, and given to `Linker::func`. Beside it there is a type
/// of the same name for `Linker::hostcall`. Its first parameter is `&Vmctx`; the others and the result are
/// what `Linker::func` takes.
///
/// Arguments, all optional: `module = "..."` (`"env"` if not given), `name = "..."` (the function's name), and
/// `suspending`, for one that suspends its guest in the middle (`Linker::suspending_func`).
///
/// # Errors
///
/// What is no free function with such parameters, and arguments that are not these, are errors of the compiler
/// that point at what is wrong.
#[proc_macro_attribute]
pub fn hostcall(arguments: TokenStream, item: TokenStream) -> TokenStream {
    hostcall::expand(arguments.into(), item.into()).into()
}

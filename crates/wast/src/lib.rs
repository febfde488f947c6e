//! Runs scripts in the format of the official test suite (`.wast`): modules, actions on them, and assertions
//! about what comes of them.
//!
//! It stands on the embedder's face alone, as any user of it does. The command `selvedge wast` and the
//! project's own run of the suite are the same code.
//!
//! ```
//! let script = "(module (func (export \"one\") (result i32) (i32.const 1)))
//!     (assert_return (invoke \"one\") (i32.const 1))
//!     (assert_return (invoke \"one\") (i32.const 2))";
//! let outcome = selvedge_wast::run(script, &selvedge::Settings::default())?;
//! assert_eq!((outcome.passed, outcome.failures.len()), (2, 1));
//! assert_eq!(outcome.failures[0].line, 3);
//! # Ok::<(), selvedge_wast::Error>(())
//! ```
#![forbid(unsafe_code)]

mod error;
mod script;
mod threads;
mod values;

pub use error::Error;
pub use script::{Failure, Observer, Outcome, run, run_observed};

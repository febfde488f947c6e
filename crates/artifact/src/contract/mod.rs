//! The agreements between generated code and the runtime, a table each.
//!
//! Nothing here is computed twice: the compiler takes offsets and numbers from these tables, the
//! runtime generates its structures from them.

pub mod builtins;
pub mod canon;
pub mod ids;
pub mod traps;
pub mod tunables;
pub mod types;
pub mod vmfields;
pub mod vmoffsets;

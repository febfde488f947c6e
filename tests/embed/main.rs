//! What an embedder is promised: calls both ways, host functions, memory, globals and tables, linked
//! modules, contexts, threads, limits, regions. Not here: traps (`faults`), bad input (`hostile`).
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod borrows;
mod calls;
mod contexts;
mod counted_calls;
mod dialogues;
mod entry_points;
mod globals_tables;
mod growing_later;
mod growth;
mod guest_ptr;
mod heaps;
mod host_first;
mod hostcall_attribute;
mod hostcalls;
mod instance_limits;
mod kills;
mod limits;
mod linking;
mod memory;
mod metadata;
mod plugins;
mod recovery;
mod region;
mod scenarios;
mod seed_page;
mod sequences;
mod signatures;
mod stack_depths;
mod start;
mod starting_later;
mod states;
mod suspend;
mod threads;

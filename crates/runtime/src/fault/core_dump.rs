//! Core dumps: what a guest left behind, as a Wasm file for debuggers (tool-conventions, `Coredump.md`).
//!
//! ```text
//! core           who it is of
//! coremodules    names of the modules in the instance
//! coreinstances  each member: its module, its memories and globals by their numbers in this file
//! memory global  all memories and globals of all members, each once
//! data           pages of the memories that are not zero
//! corestack      frames of the fault, innermost first
//! ```
//!
//! A dump is written in one pass from two: the lengths of sections stand before their contents. Locals
//! and operands are left out, as the compiler keeps no record of where they are.

use std::io::{self, Write};

use selvedge_artifact::ids::{GlobalIdx, MemoryIdx};
use selvedge_artifact::module::ModuleInfo;
use selvedge_artifact::types::{GlobalType, HeapType, MemoryType, ValType};

use crate::error::Error;
use crate::fault::details::FaultDetails;
use crate::instance::store::Store;
use crate::vm::context::ArraySlot;

/// Bytes of which only those pieces are dumped that are not all zero.
const PIECE_LEN: usize = 4096;
/// Zeros between two runs that cost less than a segment of their own.
const GAP_LEN: usize = 4 * PIECE_LEN;
/// Bytes of data that a dump holds at most: the length of a section is a 32-bit number.
const MAX_DATA_LEN: u64 = u32::MAX as u64 - (1 << 20);

const CUSTOM: u8 = 0;
const MEMORY: u8 = 5;
const GLOBAL: u8 = 6;
const DATA: u8 = 11;

/// Writes the core dump of an instance that does not run.
pub(crate) fn write(
    store: &Store,
    fault: Option<&FaultDetails>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let failed = Error::system("write the core dump");
    let runs = runs(store)?;
    write_all(store, fault, &runs, out).map_err(failed)
}

fn write_all(
    store: &Store,
    fault: Option<&FaultDetails>,
    runs: &[Run],
    out: &mut dyn Write,
) -> io::Result<()> {
    out.write_all(b"\0asm\x01\0\0\0")?;
    let main = store.members.first();
    let name = main.and_then(|member| member.module().name());
    custom(out, "core", |body| {
        body.push(0);
        string(body, name.unwrap_or("<module>"));
    })?;
    custom(out, "coremodules", |body| {
        uint(body, store.members.len() as u64);
        for member in &store.members {
            body.push(0);
            string(body, member.module().name().unwrap_or("<module>"));
        }
    })?;
    custom(out, "coreinstances", |body| instances(store, body))?;
    section(out, MEMORY, |body| memories(store, body))?;
    section(out, GLOBAL, |body| globals(store, body))?;
    data(store, runs, out)?;
    custom(out, "corestack", |body| {
        body.push(0);
        string(body, "main");
        frames(fault, body);
    })
}

fn instances(store: &Store, body: &mut Vec<u8>) {
    uint(body, store.members.len() as u64);
    for (number, member) in store.members.iter().enumerate() {
        body.push(0);
        // One entry a member in `coremodules`, even where two are instances of the same module.
        uint(body, number as u64);
        let info = member.module().info();
        uint(body, info.memories.len() as u64);
        for memory in 0..info.memories.len() as u32 {
            let (owner, index) = member.memory_owner(MemoryIdx::new(memory));
            let before = defined_before(store, owner.position(), defined_memories);
            let own = index.as_u32() - owner.module().info().imported.memories;
            uint(body, (before + own).into());
        }
        uint(body, info.globals.len() as u64);
        for global in 0..info.globals.len() as u32 {
            let (owner, index) = member.global_owner(GlobalIdx::new(global));
            let before = defined_before(store, owner.position(), defined_globals);
            let own = index.as_u32() - owner.module().info().imported.globals;
            uint(body, (before + own).into());
        }
    }
}

fn defined_memories(info: &ModuleInfo) -> u32 {
    info.memories.len() as u32 - info.imported.memories
}

fn defined_globals(info: &ModuleInfo) -> u32 {
    info.globals.len() as u32 - info.imported.globals
}

/// How many the members before a position define.
fn defined_before(store: &Store, position: usize, count: impl Fn(&ModuleInfo) -> u32) -> u32 {
    let members = store.members.iter().take(position);
    members.map(|member| count(member.module().info())).sum()
}

fn memories(store: &Store, body: &mut Vec<u8>) {
    let members = store.members.iter();
    let count: u32 = members.map(|m| defined_memories(m.module().info())).sum();
    uint(body, count.into());
    for member in &store.members {
        let info = member.module().info();
        for index in info.imported.memories..info.memories.len() as u32 {
            let index = MemoryIdx::new(index);
            memory_type(
                body,
                &info.memories[index.index()],
                member.memory_pages(index),
            );
        }
    }
}

/// A memory of as many pages as it has now (specification, "Limits"; custom page sizes).
fn memory_type(body: &mut Vec<u8>, ty: &MemoryType, pages: u64) {
    const IS_64: u8 = 4;
    const HAS_PAGE_LEN: u8 = 8;
    const USUAL_PAGE_LEN_LOG2: u8 = 16;
    let unusual = ty.page_len_log2 != USUAL_PAGE_LEN_LOG2;
    body.push(if ty.is_64 { IS_64 } else { 0 } | if unusual { HAS_PAGE_LEN } else { 0 });
    uint(body, pages);
    if unusual {
        uint(body, ty.page_len_log2.into());
    }
}

fn globals(store: &Store, body: &mut Vec<u8>) {
    let members = store.members.iter();
    let count: u32 = members.map(|m| defined_globals(m.module().info())).sum();
    uint(body, count.into());
    for member in &store.members {
        let info = member.module().info();
        for index in info.imported.globals..info.globals.len() as u32 {
            let global = GlobalIdx::new(index);
            let ty = info.globals[global.index()];
            constant(body, &ty, member.global_raw(global));
        }
    }
}

/// A global that is constant, with its value. References are of this process and come out as null.
fn constant(body: &mut Vec<u8>, global: &GlobalType, value: ArraySlot) {
    const END: u8 = 0x0b;
    let (ty, code) = match global.ty {
        ValType::I32 => (0x7f, 0x41),
        ValType::I64 => (0x7e, 0x42),
        ValType::F32 => (0x7d, 0x43),
        ValType::F64 => (0x7c, 0x44),
        ValType::V128 => (0x7b, 0xfd),
        ValType::Ref(ty) if ty.heap.top() == HeapType::Extern => (0x6f, 0xd0),
        _ => (0x70, 0xd0),
    };
    body.extend([ty, 0, code]);
    match global.ty {
        ValType::I32 => sint(body, (value.lo as i32).into()),
        ValType::I64 => sint(body, value.lo.cast_signed()),
        ValType::F32 => body.extend((value.lo as u32).to_le_bytes()),
        ValType::F64 => body.extend(value.lo.to_le_bytes()),
        ValType::V128 => {
            // `v128.const` is the prefix and number 12.
            body.push(12);
            body.extend(value.lo.to_le_bytes());
            body.extend(value.hi.to_le_bytes());
        }
        _ => body.push(ty),
    }
    body.push(END);
}

/// Bytes of a memory that are dumped.
struct Run {
    /// Position of the member that defines it, and its index there.
    member: usize,
    memory: MemoryIdx,
    /// Number of the memory in the dump.
    number: u32,
    start: usize,
    len: usize,
}

/// What is not zero in all memories. Beyond what a section can hold, the rest is left out.
fn runs(store: &Store) -> Result<Vec<Run>, Error> {
    let mut runs: Vec<Run> = Vec::new();
    let (mut number, mut total) = (0, 0);
    for (position, member) in store.members.iter().enumerate() {
        let info = member.module().info();
        for index in info.imported.memories..info.memories.len() as u32 {
            let memory = MemoryIdx::new(index);
            let view = member.memory(memory).and_then(|view| view.borrow());
            let view = view.ok_or(Error::MemoryBorrowed)?;
            let mut open: Option<(usize, usize)> = None;
            let mut close = |run: Option<(usize, usize)>| {
                let Some((start, end)) = run else { return };
                let len = end - start;
                total += len as u64;
                if total <= MAX_DATA_LEN {
                    runs.push(Run {
                        member: position,
                        memory,
                        number,
                        start,
                        len,
                    });
                }
            };
            for (piece, bytes) in view.bytes().chunks(PIECE_LEN).enumerate() {
                if bytes.iter().all(|&byte| byte == 0) {
                    continue;
                }
                let at = piece * PIECE_LEN;
                let end = at + bytes.len();
                open = match open {
                    Some((start, last)) if at - last <= GAP_LEN => Some((start, end)),
                    before => {
                        close(before);
                        Some((at, end))
                    }
                };
            }
            close(open);
            number += 1;
        }
    }
    Ok(runs)
}

fn data(store: &Store, runs: &[Run], out: &mut dyn Write) -> io::Result<()> {
    let head = |run: &Run| {
        let is_64 = store.members[run.member].module().info().memories[run.memory.index()].is_64;
        let mut head = Vec::new();
        // An active segment that names its memory, at a constant offset.
        head.push(2);
        uint(&mut head, run.number.into());
        head.push(if is_64 { 0x42 } else { 0x41 });
        let start = run.start as u64;
        let signed = if is_64 {
            start.cast_signed()
        } else {
            i64::from(start as i32)
        };
        sint(&mut head, signed);
        head.push(0x0b);
        uint(&mut head, run.len as u64);
        head
    };
    let mut count = Vec::new();
    uint(&mut count, runs.len() as u64);
    let len = runs.iter().map(|run| head(run).len() + run.len);
    let len = len.sum::<usize>() + count.len();
    let mut start = vec![DATA];
    uint(&mut start, len as u64);
    out.write_all(&start)?;
    out.write_all(&count)?;
    for run in runs {
        out.write_all(&head(run))?;
        let memory = store.members[run.member].memory(run.memory);
        let view = memory.and_then(|view| view.borrow());
        let view = view.ok_or_else(|| io::Error::other("the memory is borrowed"))?;
        out.write_all(&view.bytes()[run.start..run.start + run.len])?;
    }
    Ok(())
}

fn frames(fault: Option<&FaultDetails>, body: &mut Vec<u8>) {
    let frames = fault.map_or(&[][..], |fault| &fault.backtrace.frames);
    uint(body, frames.len() as u64);
    for frame in frames {
        body.push(0);
        uint(body, frame.member.into());
        uint(body, frame.func_index.into());
        uint(body, frame.func_offset.unwrap_or(0).into());
        // No locals and no operands.
        body.extend([0, 0]);
    }
}

fn custom(out: &mut dyn Write, name: &str, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    section(out, CUSTOM, |body| {
        string(body, name);
        fill(body);
    })
}

fn section(out: &mut dyn Write, id: u8, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    let mut body = Vec::new();
    fill(&mut body);
    let mut head = vec![id];
    uint(&mut head, body.len() as u64);
    out.write_all(&head)?;
    out.write_all(&body)
}

fn string(out: &mut Vec<u8>, text: &str) {
    uint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// An unsigned number in LEB128.
fn uint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// A signed number in LEB128.
fn sint(out: &mut Vec<u8>, mut value: i64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        // Done when what is left is the sign of what is written.
        if value == -i64::from(low >> 6 & 1) {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_encoded_as_the_specification_has_them() {
        let unsigned = |value| {
            let mut out = Vec::new();
            uint(&mut out, value);
            out
        };
        assert_eq!(unsigned(0), [0]);
        assert_eq!(unsigned(624_485), [0xe5, 0x8e, 0x26]);
        assert_eq!(unsigned(u64::MAX).len(), 10);
        let signed = |value| {
            let mut out = Vec::new();
            sint(&mut out, value);
            out
        };
        assert_eq!(signed(0), [0]);
        assert_eq!(signed(-1), [0x7f]);
        assert_eq!(signed(64), [0xc0, 0]);
        assert_eq!(signed(-123_456), [0xc0, 0xbb, 0x78]);
        assert_eq!(signed(i64::MIN).len(), 10);
    }
}

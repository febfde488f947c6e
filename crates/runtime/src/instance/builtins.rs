//! What libcalls do: growth, bulk operations and everything about tables.
//!
//! Arguments come from generated code, typed but not bounded: every index into a memory or table is
//! checked here. Indices of memories, tables, segments and functions come from validated code.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use selvedge_artifact::ids::{DataIdx, ElemIdx, FuncIdx, MemoryIdx, TableIdx, TagIdx, TypeIdx};
use selvedge_artifact::traps::TrapCode;

use crate::fault::details::TrapInfo;
use crate::host::error::{HostError, TerminationDetails};
use crate::instance::exceptions::Exn;
use crate::instance::record::Record;
use crate::stop::parking::Woken;
use crate::vm::activation::Outcome;
use crate::vm::ptr::FuncRefPtr;
use crate::vm::shared_bytes::SharedBytes;
use crate::vm::unwind;

/// A libcall traps.
#[derive(Debug)]
pub(crate) struct LibTrap {
    pub(crate) code: TrapCode,
    pub(crate) info: Option<Box<TrapInfo>>,
}

impl LibTrap {
    pub(crate) fn new(code: TrapCode, info: TrapInfo) -> Self {
        Self {
            code,
            info: Some(Box::new(info)),
        }
    }
}

impl From<TrapCode> for LibTrap {
    fn from(code: TrapCode) -> Self {
        Self { code, info: None }
    }
}

/// The trap of a range that lay inside a moment ago. Memories do not shrink, so it does not happen.
const OUTSIDE: LibTrap = LibTrap {
    code: TrapCode::HeapOutOfBounds,
    info: None,
};

/// Two indices in one word, the first in the upper half.
fn unpack(pair: u64) -> (u32, u32) {
    ((pair >> 32) as u32, pair as u32)
}

/// A range of the bytes of a memory, if it lies inside.
fn in_memory(memory: u32, at: u64, count: u64, len: usize) -> Result<Range<usize>, LibTrap> {
    within(at, count, len as u64).map_err(|address| {
        let len = len as u64;
        let outside = TrapInfo::Memory {
            memory,
            address,
            len,
        };
        LibTrap::new(TrapCode::HeapOutOfBounds, outside)
    })
}

/// A range of the bytes of a data segment, if it lies inside.
fn in_segment(segment: u32, at: u64, count: u64, len: usize) -> Result<Range<usize>, LibTrap> {
    within(at, count, len as u64).map_err(|index| {
        let len = len as u64;
        let outside = TrapInfo::Segment {
            segment,
            index,
            len,
        };
        LibTrap::new(TrapCode::HeapOutOfBounds, outside)
    })
}

/// The trap of a range of a table that does not lie inside.
fn outside_table(code: TrapCode, table: u32, at: u64, len: u64) -> LibTrap {
    let index = at.max(len);
    LibTrap::new(code, TrapInfo::Table { table, index, len })
}

/// A range that lies inside `len`, or the first index of it that does not.
fn within(at: u64, count: u64, len: u64) -> Result<Range<usize>, u64> {
    match at.checked_add(count) {
        Some(end) if end <= len => Ok(at as usize..end as usize),
        _ => Err(at.max(len)),
    }
}

/// Bytes that are copied or filled at once: a guest that is to end waits for so many at most.
const PART: usize = 16 << 20;

/// Does something part by part, in order or from the end, as long as it may go on; whether all is done.
fn in_parts(
    len: usize,
    backwards: bool,
    mut part: impl FnMut(Range<usize>),
    goes_on: impl Fn() -> bool,
) -> bool {
    let mut done = 0;
    loop {
        let count = (len - done).min(PART);
        let at = if backwards { len - done - count } else { done };
        part(at..at + count);
        done += count;
        if done == len {
            return true;
        }
        if !goes_on() {
            return false;
        }
    }
}

impl Record {
    pub(crate) fn memory_grow(&self, memory: u32, delta: u64) -> Result<u64, LibTrap> {
        let memory = MemoryIdx::new(memory);
        Ok(self.grow_for_guest(move |record, asker| record.grow_memory(memory, delta, asker)))
    }

    pub(crate) fn memory_copy(
        &self,
        memories: u64,
        dst: u64,
        src: u64,
        len: u64,
    ) -> Result<(), LibTrap> {
        let (to, from) = unpack(memories);
        let (to_idx, from_idx) = (MemoryIdx::new(to), MemoryIdx::new(from));
        match (self.shared_memory(to_idx), self.shared_memory(from_idx)) {
            (None, None) => {}
            (Some(target), Some(source)) => {
                in_memory(from, src, len, source.len() as usize)?;
                in_memory(to, dst, len, target.len() as usize)?;
                return target
                    .bytes()
                    .copy_from(dst, source.bytes(), src, len)
                    .ok_or(OUTSIDE);
            }
            (Some(target), None) => {
                return self.with_memory(from_idx, |bytes| {
                    let src = in_memory(from, src, len, bytes.len())?;
                    in_memory(to, dst, len, target.len() as usize)?;
                    target.bytes().write(dst, &bytes[src]).ok_or(OUTSIDE)
                });
            }
            (None, Some(source)) => {
                return self.with_memory(to_idx, |bytes| {
                    in_memory(from, src, len, source.len() as usize)?;
                    let dst = in_memory(to, dst, len, bytes.len())?;
                    source.bytes().read(src, &mut bytes[dst]).ok_or(OUTSIDE)
                });
            }
        }
        let source = self.memory(from_idx).ok_or(TrapCode::HeapOutOfBounds)?;
        // Two imports may be the same memory.
        if self
            .memory(to_idx)
            .is_some_and(|to| std::ptr::eq(to, source))
        {
            return self.with_memory(to_idx, |bytes| {
                let src = in_memory(from, src, len, bytes.len())?;
                let dst = in_memory(to, dst, len, bytes.len())?;
                // What lies in the way of an overlapping copy is moved first.
                let backwards = dst.start > src.start;
                self.in_parts(src.len(), backwards, |part| {
                    let from = src.start + part.start..src.start + part.end;
                    bytes.copy_within(from, dst.start + part.start);
                })
            });
        }
        let source = source.borrow().ok_or(TrapCode::HeapOutOfBounds)?;
        self.with_memory(to_idx, |bytes| {
            let src = in_memory(from, src, len, source.bytes().len())?;
            let dst = in_memory(to, dst, len, bytes.len())?;
            let (source, target) = (&source.bytes()[src], &mut bytes[dst]);
            self.in_parts(source.len(), false, |part| {
                target[part.clone()].copy_from_slice(&source[part]);
            })
        })
    }

    pub(crate) fn memory_fill(
        &self,
        memory: u32,
        dst: u64,
        value: u32,
        len: u64,
    ) -> Result<(), LibTrap> {
        if let Some(shared) = self.shared_memory(MemoryIdx::new(memory)) {
            in_memory(memory, dst, len, shared.len() as usize)?;
            return shared.bytes().fill(dst, value as u8, len).ok_or(OUTSIDE);
        }
        self.with_memory(MemoryIdx::new(memory), |bytes| {
            let dst = in_memory(memory, dst, len, bytes.len())?;
            let target = &mut bytes[dst];
            self.in_parts(target.len(), false, |part| target[part].fill(value as u8))
        })
    }

    /// Does something part by part, as long as the guest is not to end.
    fn in_parts(
        &self,
        len: usize,
        backwards: bool,
        part: impl FnMut(Range<usize>),
    ) -> Result<(), LibTrap> {
        let words = self.store().limits.words();
        if in_parts(len, backwards, part, || !words.is_to_end()) {
            return Ok(());
        }
        self.end_here()
    }

    /// Ends the guest in a libcall: somebody wants that, or its epoch deadline is reached.
    fn end_here(&self) -> Result<(), LibTrap> {
        let words = self.store().limits.words();
        if !words.is_wanted() {
            return Err(TrapCode::EpochDeadline.into());
        }
        words.honour();
        let ended = HostError::Terminate(TerminationDetails::Remote);
        self.store().raise(Outcome::Host(ended));
        Ok(())
    }

    pub(crate) fn memory_init(
        &self,
        memory_data: u64,
        dst: u64,
        src: u32,
        len: u32,
    ) -> Result<(), LibTrap> {
        let (memory, data) = unpack(memory_data);
        let segment = self.data_segment(DataIdx::new(data));
        if let Some(shared) = self.shared_memory(MemoryIdx::new(memory)) {
            let src = in_segment(data, src.into(), len.into(), segment.len())?;
            in_memory(memory, dst, len.into(), shared.len() as usize)?;
            return shared.bytes().write(dst, &segment[src]).ok_or(OUTSIDE);
        }
        self.with_memory(MemoryIdx::new(memory), |bytes| {
            let src = in_segment(data, src.into(), len.into(), segment.len())?;
            let dst = in_memory(memory, dst, len.into(), bytes.len())?;
            bytes[dst].copy_from_slice(&segment[src]);
            Ok(())
        })
    }

    pub(crate) fn memory_out_of_bounds(
        &self,
        memory: u32,
        index: u64,
        offset: u64,
    ) -> Result<(), LibTrap> {
        Err(LibTrap {
            code: TrapCode::HeapOutOfBounds,
            info: Some(self.outside_memory(memory, index.saturating_add(offset))),
        })
    }

    pub(crate) fn atomic_wait32(
        &self,
        memory: u32,
        addr: u64,
        expected: u32,
        timeout: u64,
    ) -> Result<u32, LibTrap> {
        self.wait(memory, addr, 4, timeout, |bytes| {
            bytes.load32(addr).map(|found| found == expected)
        })
    }

    pub(crate) fn atomic_wait64(
        &self,
        memory: u32,
        addr: u64,
        expected: u64,
        timeout: u64,
    ) -> Result<u32, LibTrap> {
        self.wait(memory, addr, 8, timeout, |bytes| {
            bytes.load64(addr).map(|found| found == expected)
        })
    }

    fn wait(
        &self,
        memory: u32,
        addr: u64,
        len: u64,
        timeout: u64,
        is_expected: impl Fn(&SharedBytes) -> Option<bool>,
    ) -> Result<u32, LibTrap> {
        self.check_waiting(memory, addr, len)?;
        let shared = self.shared_memory(MemoryIdx::new(memory));
        let shared = shared.ok_or(TrapCode::ExpectedSharedMemory)?;
        let timeout = timeout.cast_signed();
        let timeout = u64::try_from(timeout).ok().map(Duration::from_nanos);
        let hook = Some(self.store().interruptible());
        let is_expected = || is_expected(shared.bytes()).unwrap_or(false);
        match shared.lot().wait(addr, is_expected, timeout, hook) {
            Woken::Notified => Ok(0),
            Woken::Mismatch => Ok(1),
            Woken::TimedOut => Ok(2),
            Woken::Interrupted => self.end_here().map(|()| 0),
        }
    }

    pub(crate) fn atomic_notify(&self, memory: u32, addr: u64, count: u32) -> Result<u32, LibTrap> {
        self.check_waiting(memory, addr, 4)?;
        let shared = self.shared_memory(MemoryIdx::new(memory));
        // Nobody can wait on another memory.
        Ok(shared.map_or(0, |shared| shared.lot().notify(addr, count)))
    }

    /// Checks an address that is waited at or notified.
    fn check_waiting(&self, memory: u32, addr: u64, len: u64) -> Result<(), LibTrap> {
        if !addr.is_multiple_of(len) {
            return Err(TrapCode::UnalignedAtomic.into());
        }
        let bytes = self.memory_len(MemoryIdx::new(memory));
        in_memory(memory, addr, len, bytes as usize).map(drop)
    }

    pub(crate) fn data_drop(&self, data: u32) -> Result<(), LibTrap> {
        self.drop_data(DataIdx::new(data));
        Ok(())
    }

    pub(crate) fn table_size(&self, table: u32) -> Result<u64, LibTrap> {
        Ok(self.with_table(TableIdx::new(table), |_, table| table.len()))
    }

    pub(crate) fn table_get(&self, table: u32, index: u64) -> Result<u64, LibTrap> {
        self.with_table(TableIdx::new(table), |owner, found| {
            let entry = found.get(owner.context(), index).ok_or_else(|| {
                outside_table(TrapCode::TableOutOfBounds, table, index, found.len())
            })?;
            Ok(owner.entry_to_raw(found, entry))
        })
    }

    pub(crate) fn table_set(&self, table: u32, index: u64, value: u64) -> Result<(), LibTrap> {
        self.write_refs(TableIdx::new(table), index, &[value])
    }

    pub(crate) fn table_grow(&self, table: u32, delta: u64, init: u64) -> Result<u64, LibTrap> {
        let table = TableIdx::new(table);
        Ok(self.grow_for_guest(move |record, asker| record.grow_table(table, delta, init, asker)))
    }

    pub(crate) fn table_fill(
        &self,
        table: u32,
        dst: u64,
        value: u64,
        len: u64,
    ) -> Result<(), LibTrap> {
        self.with_table(TableIdx::new(table), |owner, found| {
            let outside = |_| outside_table(TrapCode::TableOutOfBounds, table, dst, found.len());
            let range = within(dst, len, found.len()).map_err(outside)?;
            let entry = owner.raw_to_entry(found, value);
            let entries = std::iter::repeat_n(entry, range.len());
            found
                .write(owner.context(), dst, entries)
                .ok_or_else(|| outside(dst))
        })
    }

    pub(crate) fn table_copy(
        &self,
        tables: u64,
        dst: u64,
        src: u64,
        len: u64,
    ) -> Result<(), LibTrap> {
        let (to, from) = unpack(tables);
        let values = self.with_table(TableIdx::new(from), |owner, table| {
            let entries = table
                .read(owner.context(), src, len)
                .ok_or_else(|| outside_table(TrapCode::TableOutOfBounds, from, src, table.len()))?;
            let values = entries.into_iter();
            Ok::<_, LibTrap>(
                values
                    .map(|entry| owner.entry_to_raw(table, entry))
                    .collect::<Vec<_>>(),
            )
        })?;
        self.write_refs(TableIdx::new(to), dst, &values)
    }

    pub(crate) fn table_init(
        &self,
        table_elem: u64,
        dst: u64,
        src: u32,
        len: u32,
    ) -> Result<(), LibTrap> {
        let (table, elem) = unpack(table_elem);
        let values = self.elem_values(ElemIdx::new(elem), src.into(), len.into())?;
        self.write_refs(TableIdx::new(table), dst, &values)
    }

    pub(crate) fn elem_drop(&self, elem: u32) -> Result<(), LibTrap> {
        self.drop_elem(ElemIdx::new(elem));
        Ok(())
    }

    pub(crate) fn ref_func(&self, func: u32) -> Result<u64, LibTrap> {
        Ok(self
            .func_ref(FuncIdx::new(func))
            .map_or(0, FuncRefPtr::to_raw))
    }

    pub(crate) fn indirect_callee(&self, table_type: u64, index: u64) -> Result<u64, LibTrap> {
        let (table, ty) = unpack(table_type);
        let raw = self.with_table(TableIdx::new(table), |owner, found| {
            let entry = found.get(owner.context(), index).ok_or_else(|| {
                outside_table(TrapCode::UndefinedElement, table, index, found.len())
            })?;
            Ok::<_, LibTrap>(owner.entry_to_raw(found, entry))
        })?;
        let Some(func) = FuncRefPtr::known(raw) else {
            let null = TrapInfo::NullElement { table, index };
            return Err(LibTrap::new(TrapCode::IndirectCallToNull, null));
        };
        let ty = TypeIdx::new(ty);
        if func.get().type_id != self.module().type_ids()[ty.index()] {
            let mismatch = TrapInfo::Signature {
                table,
                index,
                expected: self.module().info().types[ty.index()].clone(),
                found: self.store().func_type(func).cloned(),
            };
            return Err(LibTrap::new(TrapCode::BadSignature, mismatch));
        }
        Ok(raw)
    }

    pub(crate) fn throw(&self, tag: u32, values: u64) -> Result<(), LibTrap> {
        let tag = self.tag(TagIdx::new(tag)).clone();
        let count = tag.ty().params.len();
        let values = unwind::thrown_values(self.store(), values as usize, count);
        self.store()
            .raise(Outcome::Exception(Rc::new(Exn { tag, values })));
        Ok(())
    }

    pub(crate) fn throw_ref(&self, exn: u64) -> Result<(), LibTrap> {
        let exn = self.store().exceptions().get(exn);
        let exn = exn.ok_or(TrapCode::NullExceptionReference)?;
        self.store().raise(Outcome::Exception(exn));
        Ok(())
    }

    /// Stores references in a table.
    pub(crate) fn write_refs(
        &self,
        table: TableIdx,
        at: u64,
        values: &[u64],
    ) -> Result<(), LibTrap> {
        self.with_table(table, |owner, found| {
            let entries = values.iter().map(|&raw| owner.raw_to_entry(found, raw));
            found.write(owner.context(), at, entries).ok_or_else(|| {
                outside_table(TrapCode::TableOutOfBounds, table.as_u32(), at, found.len())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn parts_are_all_there_is_in_either_direction() {
        for len in [0, 1, PART - 1, PART, PART + 1, 3 * PART + 7] {
            for backwards in [false, true] {
                let mut parts = Vec::new();
                assert!(in_parts(len, backwards, |part| parts.push(part), || true));
                if backwards {
                    parts.reverse();
                }
                let mut at = 0;
                for part in parts {
                    assert!(part.start == at && part.len() <= PART);
                    at = part.end;
                }
                assert_eq!(at, len);
            }
        }
    }

    #[test]
    fn between_two_parts_a_guest_ends() {
        let left = Cell::new(2);
        let goes_on = || {
            left.set(left.get() - 1);
            left.get() > 0
        };
        let mut parts = 0;
        assert!(!in_parts(5 * PART, false, |_| parts += 1, goes_on));
        assert_eq!(parts, 2);
        // What is one part is done in any case.
        assert!(in_parts(PART, false, |_| (), || false));
    }
}

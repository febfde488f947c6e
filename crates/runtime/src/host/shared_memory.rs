//! A memory that instances on several threads have at the same time, as the host holds it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use selvedge_artifact::types::MemoryType;

use crate::engine::Engine;
use crate::error::Error;
use crate::instance::memory::far_len;
use crate::region::limits::Limits;
use crate::stop::parking::{ParkingLot, Woken};
use crate::vm::shared_bytes::SharedBytes;

/// A shared memory. Clones are the same memory; it lives as long as any of them or an instance that has it.
///
/// Guests may write it at any time, so there is no slice of it: the host copies bytes in and out, and what
/// it copies while a guest writes may be partly old and partly new. Numbers are read and written whole,
/// in the order that all threads agree on. A copy of bytes orders nothing.
#[derive(Clone)]
pub struct SharedMemory {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    ty: MemoryType,
    /// Bytes that it may have.
    limit: u64,
    bytes: SharedBytes,
    lot: ParkingLot,
}

/// How a wait of the host ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitResult {
    /// Somebody notified.
    Notified,
    /// The word was not as expected.
    Mismatch,
    /// The time was up.
    TimedOut,
}

impl SharedMemory {
    /// A memory with 32-bit addresses, of `min` pages of 64 KiB at the start and `max` at most.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if `min` is more than `max`, or `max` more than 65536;
    /// [`Error::System`] if there is no address space or memory to be had.
    pub fn new(engine: &Engine, min: u64, max: u64) -> Result<Self, Error> {
        if min > max || max > 65536 {
            return Err(Error::InvalidArgument(
                "a shared memory has at most 65536 pages, and not more at the start than at most",
            ));
        }
        let ty = MemoryType {
            shared: true,
            ..MemoryType::new(min, Some(max))
        };
        Self::with_limits(engine, &ty, &Limits::default())
    }

    /// A memory of a type that a compiled module asks for.
    pub(crate) fn with_limits(
        engine: &Engine,
        ty: &MemoryType,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let (limit, knob) = limits.memory_limit(ty);
        if ty.min_len() > limit {
            return Err(Error::LimitsExceeded {
                what: "bytes of memory",
                needed: ty.min_len(),
                given: limit,
                knob,
            });
        }
        let reserved = far_len(ty, engine.tunables(), limits);
        let bytes = SharedBytes::reserve(reserved, ty.min_len() as usize)
            .map_err(Error::system("map a shared memory"))?;
        Ok(Self {
            inner: Arc::new(Inner {
                engine: engine.clone(),
                ty: *ty,
                limit: limit.min(ty.max_len()),
                bytes,
                lot: ParkingLot::default(),
            }),
        })
    }

    /// The engine that it was made for.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Its type, with the pages that it has now as the least.
    pub fn ty(&self) -> MemoryType {
        MemoryType {
            min: self.size(),
            ..self.inner.ty
        }
    }

    /// Its type as it was made.
    pub(crate) fn declared(&self) -> &MemoryType {
        &self.inner.ty
    }

    /// Pages.
    pub fn size(&self) -> u64 {
        self.len() / self.inner.ty.page_len()
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty, reason = "as a memory, not a collection")]
    pub fn len(&self) -> u64 {
        self.inner.bytes.len()
    }

    /// Grows it by a number of pages for all who have it; the former count of pages.
    ///
    /// # Errors
    ///
    /// [`Error::LimitsExceeded`] if its maximum, the limit of the region in which it was made, or the
    /// system stands against it.
    pub fn grow(&self, pages: u64) -> Result<u64, Error> {
        self.try_grow(pages).ok_or(Error::LimitsExceeded {
            what: "more pages of memory",
            needed: pages,
            given: 0,
            knob: "memory_len (or the memory's own maximum)",
        })
    }

    pub(crate) fn try_grow(&self, pages: u64) -> Option<u64> {
        let page_len = self.inner.ty.page_len();
        let next = |old: u64| {
            let new = pages.checked_mul(page_len)?.checked_add(old)?;
            (pages == 0 || new <= self.inner.limit).then_some(new)
        };
        Some(self.inner.bytes.grow(next)? / page_len)
    }

    /// Copies bytes out of it, from an address on.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if they do not all lie inside.
    pub fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), Error> {
        self.inner.bytes.read(addr, into).ok_or_else(outside)
    }

    /// Copies bytes into it, from an address on.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::read`]; nothing is written then.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Error> {
        self.inner.bytes.write(addr, bytes).ok_or_else(outside)
    }

    /// Loads the number at an address that is a multiple of 4.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if it is no multiple of it or does not lie inside.
    pub fn load_u32(&self, addr: u64) -> Result<u32, Error> {
        self.inner.bytes.load32(addr).ok_or_else(misplaced)
    }

    /// Loads the number at an address that is a multiple of 8.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::load_u32`].
    pub fn load_u64(&self, addr: u64) -> Result<u64, Error> {
        self.inner.bytes.load64(addr).ok_or_else(misplaced)
    }

    /// Stores a number at an address that is a multiple of 4.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::load_u32`].
    pub fn store_u32(&self, addr: u64, value: u32) -> Result<(), Error> {
        self.inner.bytes.store32(addr, value).ok_or_else(misplaced)
    }

    /// Stores a number at an address that is a multiple of 8.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::load_u32`].
    pub fn store_u64(&self, addr: u64, value: u64) -> Result<(), Error> {
        self.inner.bytes.store64(addr, value).ok_or_else(misplaced)
    }

    /// Stores a number if the one at the address is as expected; the one that was there.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::load_u32`].
    pub fn compare_exchange_u32(&self, addr: u64, expected: u32, new: u32) -> Result<u32, Error> {
        let former = self.inner.bytes.exchange32(addr, expected, new);
        former.ok_or_else(misplaced)
    }

    /// As [`SharedMemory::compare_exchange_u32`], for an address that is a multiple of 8.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::load_u32`].
    pub fn compare_exchange_u64(&self, addr: u64, expected: u64, new: u64) -> Result<u64, Error> {
        let former = self.inner.bytes.exchange64(addr, expected, new);
        former.ok_or_else(misplaced)
    }

    /// Waits, like `memory.atomic.wait32`, until somebody notifies at an address that holds a number; for
    /// ever without a time-out.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::load_u32`].
    pub fn wait32(
        &self,
        addr: u64,
        expected: u32,
        timeout: Option<Duration>,
    ) -> Result<WaitResult, Error> {
        self.load_u32(addr)?;
        let is_expected = || self.inner.bytes.load32(addr) == Some(expected);
        Ok(self.wait(addr, is_expected, timeout))
    }

    /// As [`SharedMemory::wait32`], for an address that is a multiple of 8.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::load_u32`].
    pub fn wait64(
        &self,
        addr: u64,
        expected: u64,
        timeout: Option<Duration>,
    ) -> Result<WaitResult, Error> {
        self.load_u64(addr)?;
        let is_expected = || self.inner.bytes.load64(addr) == Some(expected);
        Ok(self.wait(addr, is_expected, timeout))
    }

    fn wait(
        &self,
        addr: u64,
        is_expected: impl FnOnce() -> bool,
        timeout: Option<Duration>,
    ) -> WaitResult {
        match self.inner.lot.wait(addr, is_expected, timeout, None) {
            Woken::Mismatch => WaitResult::Mismatch,
            Woken::TimedOut => WaitResult::TimedOut,
            // Without a hook nobody interrupts.
            Woken::Notified | Woken::Interrupted => WaitResult::Notified,
        }
    }

    /// Wakes those who wait at an address, guests and hosts, `count` at most; how many it woke.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::load_u32`].
    pub fn notify(&self, addr: u64, count: u32) -> Result<u32, Error> {
        self.load_u32(addr)?;
        Ok(self.inner.lot.notify(addr, count))
    }

    /// How many wait at an address now.
    pub fn waiting(&self, addr: u64) -> usize {
        self.inner.lot.waiting(addr)
    }

    pub(crate) fn bytes(&self) -> &SharedBytes {
        &self.inner.bytes
    }

    pub(crate) fn lot(&self) -> &ParkingLot {
        &self.inner.lot
    }

    /// Address of byte 0.
    pub(crate) fn addr(&self) -> usize {
        self.inner.bytes.addr()
    }

    /// Address of its `VMMemoryDefinition`.
    pub(crate) fn definition_addr(&self) -> usize {
        self.inner.bytes.definition_addr()
    }

    /// Addresses that an access may hit, guard included.
    pub(crate) fn range(&self) -> Range<usize> {
        self.inner.bytes.range()
    }
}

fn outside() -> Error {
    Error::InvalidArgument("the bytes do not all lie in the shared memory")
}

fn misplaced() -> Error {
    Error::InvalidArgument("the address is outside the shared memory, or no multiple of the length")
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory")
            .field("type", &self.inner.ty)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

const _: () = {
    const fn is_shareable<T: Clone + Send + Sync>() {}
    is_shareable::<SharedMemory>();
};

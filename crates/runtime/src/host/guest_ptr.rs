//! Typed addresses in a guest's memory.
//!
//! A guest hands out numbers; here they get types. Nothing in this file trusts them: every access checks
//! alignment, overflow and bounds against the bytes it is given, which are those of `heap()` or `heap_mut()` of
//! a [`Vmctx`](crate::Vmctx) or an [`Instance`](crate::Instance), borrowed by their rules. Values are copied in
//! and out; no reference into guest memory is made but the slice of bytes itself.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use selvedge_artifact::types::ValType;
use thiserror::Error;

use crate::host::error::HostError;
use crate::host::func::{WasmTy, sealed::Sealed};

/// An address or length of a guest's does not name what it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum GuestAccessError {
    /// Some of it lies outside the memory.
    #[error(
        "{len} bytes at guest address {address:#x} are not inside its memory of {memory_len} bytes"
    )]
    OutOfBounds {
        /// The address.
        address: u32,
        /// Bytes that were to be accessed.
        len: u64,
        /// Bytes of the memory.
        memory_len: usize,
    },
    /// The address is no multiple of the alignment of its type.
    #[error("guest address {address:#x} is not aligned to {align} bytes")]
    Misaligned {
        /// The address.
        address: u32,
        /// The alignment.
        align: u32,
    },
    /// The bytes are not UTF-8.
    #[error("{len} bytes at guest address {address:#x} are not UTF-8")]
    NotUtf8 {
        /// The address.
        address: u32,
        /// How many.
        len: u32,
    },
    /// As many values were not given as the slice has.
    #[error("{given} values were given for a guest's slice of {len}")]
    Length {
        /// Values given.
        given: usize,
        /// Values of the slice.
        len: u32,
    },
}

impl From<GuestAccessError> for HostError {
    fn from(error: GuestAccessError) -> Self {
        Self::new(error)
    }
}

/// A value that has a fixed length and alignment in a guest's memory, of which every pattern of bytes is one.
///
/// Structs get it by [`guest_struct!`](crate::guest_struct).
pub trait GuestValue: Copy {
    /// Bytes it takes.
    const LEN: u32;
    /// What its address is a multiple of: a power of two.
    const ALIGN: u32;
    /// From its bytes, of which there are [`LEN`](Self::LEN); missing ones count as zero.
    fn from_guest(bytes: &[u8]) -> Self;
    /// To its bytes, of which there are [`LEN`](Self::LEN).
    fn to_guest(self, bytes: &mut [u8]);
}

macro_rules! guest_values {
    ($($ty:ty)*) => {$(
        impl GuestValue for $ty {
            const LEN: u32 = size_of::<$ty>() as u32;
            const ALIGN: u32 = size_of::<$ty>() as u32;
            fn from_guest(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$ty>()];
                own.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                Self::from_le_bytes(own)
            }
            fn to_guest(self, bytes: &mut [u8]) {
                bytes.iter_mut().zip(self.to_le_bytes()).for_each(|(to, from)| *to = from);
            }
        }
    )*};
}
guest_values!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);

/// A guest's address of a value: 32 bits in its memory and as a parameter of host functions.
pub struct GuestPtr<T> {
    address: u32,
    _type: PhantomData<fn() -> T>,
}

impl<T: GuestValue> GuestPtr<T> {
    /// The value at an address.
    pub const fn new(address: u32) -> Self {
        Self {
            address,
            _type: PhantomData,
        }
    }

    /// The address.
    pub const fn address(self) -> u32 {
        self.address
    }

    /// So many values from here on.
    pub const fn slice(self, len: u32) -> GuestSlice<T> {
        GuestSlice { start: self, len }
    }

    /// Copies the value out of a memory.
    ///
    /// # Errors
    ///
    /// If it is not aligned or not inside the memory.
    pub fn read(self, heap: &[u8]) -> Result<T, GuestAccessError> {
        Ok(T::from_guest(&heap[self.slice(1).range(heap.len())?]))
    }

    /// Copies a value into a memory.
    ///
    /// # Errors
    ///
    /// If its place is not aligned or not inside the memory.
    pub fn write(self, heap: &mut [u8], value: T) -> Result<(), GuestAccessError> {
        let range = self.slice(1).range(heap.len())?;
        value.to_guest(&mut heap[range]);
        Ok(())
    }
}

/// Values that lie one behind the other in a guest's memory: an address and a count.
pub struct GuestSlice<T> {
    start: GuestPtr<T>,
    len: u32,
}

impl<T: GuestValue> GuestSlice<T> {
    /// How many values.
    pub const fn len(self) -> u32 {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The address of a value; `None` if there are not so many, or if the address is none.
    pub fn get(self, index: u32) -> Option<GuestPtr<T>> {
        let offset = index.checked_mul(T::LEN).filter(|_| index < self.len)?;
        Some(GuestPtr::new(self.start.address.checked_add(offset)?))
    }

    /// Where the bytes are in a memory of a length.
    fn range(self, memory_len: usize) -> Result<Range<usize>, GuestAccessError> {
        let address = self.start.address;
        if !address.is_multiple_of(T::ALIGN) {
            let align = T::ALIGN;
            return Err(GuestAccessError::Misaligned { address, align });
        }
        // Neither overflows 64 bits.
        let len = u64::from(self.len) * u64::from(T::LEN);
        let end = u64::from(address) + len;
        if end > memory_len as u64 {
            return Err(GuestAccessError::OutOfBounds {
                address,
                len,
                memory_len,
            });
        }
        Ok(address as usize..end as usize)
    }

    /// Copies the values out of a memory. Nothing is allocated before they are known to lie there.
    ///
    /// # Errors
    ///
    /// If they are not aligned or not inside the memory.
    pub fn read(self, heap: &[u8]) -> Result<Vec<T>, GuestAccessError> {
        let bytes = &heap[self.range(heap.len())?];
        if T::LEN == 0 {
            // There is nothing to take them from, and a count of the guest's is no reason to allocate.
            return Ok(Vec::new());
        }
        Ok(bytes
            .chunks_exact(T::LEN as usize)
            .map(T::from_guest)
            .collect())
    }

    /// Copies values into a memory, as many as the slice has.
    ///
    /// # Errors
    ///
    /// If their place is not aligned or not inside the memory, or their count is another: nothing is written
    /// then.
    pub fn write(self, heap: &mut [u8], values: &[T]) -> Result<(), GuestAccessError> {
        if values.len() as u64 != u64::from(self.len) {
            return Err(GuestAccessError::Length {
                given: values.len(),
                len: self.len,
            });
        }
        let range = self.range(heap.len())?;
        if T::LEN > 0 {
            let places = heap[range].chunks_exact_mut(T::LEN as usize);
            places
                .zip(values)
                .for_each(|(place, value)| value.to_guest(place));
        }
        Ok(())
    }
}

impl GuestSlice<u8> {
    /// The bytes where they lie, to be looked at.
    ///
    /// # Errors
    ///
    /// If they are not inside the memory.
    pub fn bytes(self, heap: &[u8]) -> Result<&[u8], GuestAccessError> {
        Ok(&heap[self.range(heap.len())?])
    }

    /// The bytes as text.
    ///
    /// # Errors
    ///
    /// If they are not inside the memory, or not UTF-8.
    pub fn text(self, heap: &[u8]) -> Result<&str, GuestAccessError> {
        let (address, len) = (self.start.address, self.len);
        let not_utf8 = |_| GuestAccessError::NotUtf8 { address, len };
        std::str::from_utf8(self.bytes(heap)?).map_err(not_utf8)
    }
}

/// A pointer in a guest's memory, as C has it there.
impl<T: GuestValue> GuestValue for GuestPtr<T> {
    const LEN: u32 = 4;
    const ALIGN: u32 = 4;
    fn from_guest(bytes: &[u8]) -> Self {
        Self::new(u32::from_guest(bytes))
    }
    fn to_guest(self, bytes: &mut [u8]) {
        self.address.to_guest(bytes);
    }
}

impl<T: GuestValue> Sealed for GuestPtr<T> {}

impl<T: GuestValue + 'static> WasmTy for GuestPtr<T> {
    const TYPE: ValType = ValType::I32;
    type Abi = i32;
    fn from_abi(abi: i32) -> Self {
        Self::new(abi.cast_unsigned())
    }
    fn into_abi(self) -> i32 {
        self.address.cast_signed()
    }
    fn to_bits(self) -> u64 {
        self.address.into()
    }
    fn from_bits(bits: u64) -> Self {
        Self::new(bits as u32)
    }
}

impl<T> Clone for GuestPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestPtr<T> {}

impl<T> PartialEq for GuestPtr<T> {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl<T> Eq for GuestPtr<T> {}

impl<T: GuestValue> Default for GuestPtr<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T> fmt::Debug for GuestPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestPtr({:#x})", self.address)
    }
}

impl<T> Clone for GuestSlice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestSlice<T> {}

impl<T> fmt::Debug for GuestSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestSlice({:#x}, {})", self.start.address, self.len)
    }
}

/// Declares a struct that guests have in their memory, laid out as C does: fields in order, each at a multiple
/// of its alignment, the length a multiple of the largest one. Bytes between fields are written as they were.
///
/// ```
/// selvedge_runtime::guest_struct! {
///     /// A point of the guest's.
///     pub struct Point { pub id: u8, pub x: f64, pub next: u32 }
/// }
/// use selvedge_runtime::GuestValue;
/// assert_eq!((Point::LEN, Point::ALIGN), (24, 8));
/// ```
#[macro_export]
macro_rules! guest_struct {
    ($(#[$attr:meta])* $vis:vis struct $name:ident { $($(#[$field_attr:meta])* $field_vis:vis $field:ident : $ty:ty),+ $(,)? }) => {
        $(#[$attr])*
        #[derive(Clone, Copy, PartialEq, Debug)]
        $vis struct $name { $($(#[$field_attr])* $field_vis $field: $ty),+ }

        impl $crate::GuestValue for $name {
            const ALIGN: u32 = {
                let mut align = 1;
                $(if <$ty as $crate::GuestValue>::ALIGN > align {
                    align = <$ty as $crate::GuestValue>::ALIGN;
                })+
                align
            };
            const LEN: u32 = {
                let mut len = 0_u32;
                $(len = len.next_multiple_of(<$ty as $crate::GuestValue>::ALIGN) + <$ty as $crate::GuestValue>::LEN;)+
                len.next_multiple_of(Self::ALIGN)
            };
            fn from_guest(bytes: &[u8]) -> Self {
                let mut at = 0_u32;
                $(
                    at = at.next_multiple_of(<$ty as $crate::GuestValue>::ALIGN);
                    let $field = <$ty as $crate::GuestValue>::from_guest(bytes.get(at as usize..).unwrap_or_default());
                    at += <$ty as $crate::GuestValue>::LEN;
                )+
                let _ = at;
                Self { $($field),+ }
            }
            fn to_guest(self, bytes: &mut [u8]) {
                let mut at = 0_u32;
                $(
                    at = at.next_multiple_of(<$ty as $crate::GuestValue>::ALIGN);
                    <$ty as $crate::GuestValue>::to_guest(self.$field, bytes.get_mut(at as usize..).unwrap_or_default());
                    at += <$ty as $crate::GuestValue>::LEN;
                )+
                let _ = at;
            }
        }
    };
}

//! The table of trap codes.
//!
//! A trap code is data, not an error: generated code carries it beside the pc, the runtime puts it
//! into what the embedder is told.

use std::fmt;

macro_rules! trap_codes {
    ($($(#[$doc:meta])* $number:literal $name:ident $c_name:literal $message:literal)*) => {
        /// Why a guest trapped.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum TrapCode {
            $($(#[$doc])* $name = $number,)*
        }

        impl TrapCode {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code with this number.
            pub const fn from_u8(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name used in C and in machine-readable output.
            pub const fn c_name(self) -> &'static str {
                match self { $(Self::$name => $c_name,)* }
            }

            /// What happened, in the words of the Wasm specification's test suite where it has some.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }
        }
    };
}

trap_codes! {
    /// The guest's stack is used up.
    1 StackOverflow "stack_overflow" "call stack exhausted"
    /// A memory access outside the memory.
    2 HeapOutOfBounds "heap_out_of_bounds" "out of bounds memory access"
    /// A table access outside the table.
    3 TableOutOfBounds "table_out_of_bounds" "out of bounds table access"
    /// `call_indirect` outside the table.
    4 UndefinedElement "undefined_element" "undefined element"
    /// `call_indirect` of a null element.
    5 IndirectCallToNull "indirect_call_to_null" "uninitialized element"
    /// `call_indirect` of a function of another type.
    6 BadSignature "bad_signature" "indirect call type mismatch"
    /// Integer division overflow, or a float that does not fit the integer type.
    7 IntegerOverflow "integer_overflow" "integer overflow"
    /// Integer division by zero.
    8 IntegerDivisionByZero "integer_division_by_zero" "integer divide by zero"
    /// Conversion of a NaN to an integer.
    9 BadConversionToInteger "bad_conversion_to_integer" "invalid conversion to integer"
    /// The `unreachable` instruction.
    10 Unreachable "unreachable" "unreachable"
    /// A null reference where one to an object is needed.
    11 NullReference "null_reference" "null reference"
    /// An atomic access at an address that its length does not divide.
    12 UnalignedAtomic "unaligned_atomic" "unaligned atomic"
    /// `memory.atomic.wait32` or `wait64` on a memory that is not shared.
    16 ExpectedSharedMemory "expected_shared_memory" "expected shared memory"
    /// `call_ref` of a null reference.
    13 NullFuncReference "null_func_reference" "null function reference"
    /// The guest has used up its fuel.
    20 OutOfFuel "out_of_fuel" "all fuel consumed"
    /// The guest's epoch deadline is reached.
    21 EpochDeadline "epoch_deadline" "epoch deadline reached"
    /// `throw_ref` of a null reference.
    14 NullExceptionReference "null_exception_reference" "null exception reference"
    /// More exceptions are referred to than an instance may have.
    15 ExceptionsExhausted "exceptions_exhausted" "exception references exhausted"
}

impl TrapCode {
    /// The number in the trap table.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for TrapCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round() {
        for &code in TrapCode::ALL {
            assert_eq!(TrapCode::from_u8(code.as_u8()), Some(code));
        }
        assert_eq!(TrapCode::from_u8(0), None);
        assert_eq!(TrapCode::from_u8(255), None);
    }
}

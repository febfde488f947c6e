//! Numbers for types, so that equal types have equal numbers.
//!
//! Types are declared in groups; those of a group may refer to each other and to earlier ones. Two groups are
//! equal if they are of the same form once references into the group itself are counted from its start and
//! all others are replaced by the numbers of what they refer to (specification, "Type equivalence").
//! The compiler numbers the types of one module, the engine those of all its modules; both do it here.

use std::collections::HashMap;

use super::types::FuncType;

/// Set in the number of a reference into its own group; types are far fewer.
const IN_GROUP: u32 = 1 << 31;

/// The numbers given so far.
#[derive(Clone, Debug, Default)]
pub struct TypeNumbers {
    groups: HashMap<Vec<FuncType>, u32>,
    next: u32,
}

impl TypeNumbers {
    /// Numbers the types of a module, whose references are indices among them. `groups` are the counts of
    /// types of each group, in order; types beyond them are groups of one. References to types of later
    /// groups, which a checked module does not have, are equal to each other.
    pub fn number(&mut self, types: &[FuncType], groups: &[u32]) -> Vec<u32> {
        let mut numbers: Vec<u32> = Vec::with_capacity(types.len());
        let mut groups = groups.iter().map(|&count| count as usize);
        while numbers.len() < types.len() {
            let start = numbers.len();
            let count = groups.next().unwrap_or(1).min(types.len() - start);
            let form = |index: u32| match (index as usize).checked_sub(start) {
                None => numbers[index as usize],
                Some(at) if at < count => IN_GROUP | at as u32,
                Some(_) => u32::MAX,
            };
            let key = types[start..start + count]
                .iter()
                .map(|ty| ty.with_numbers(form))
                .collect();
            let next = self.next;
            let first = *self.groups.entry(key).or_insert(next);
            if first == next {
                self.next += count as u32;
            }
            numbers.extend((first..).take(count));
        }
        numbers
    }

    /// The number of a function type whose references are numbers already.
    pub fn number_one(&mut self, ty: &FuncType) -> u32 {
        let next = self.next;
        let number = *self.groups.entry(vec![ty.clone()]).or_insert(next);
        if number == next {
            self.next += 1;
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{HeapType, RefType, ValType};

    /// A function that takes references to types.
    fn takes(types: &[u32]) -> FuncType {
        let reference = |&ty| {
            ValType::Ref(RefType {
                nullable: false,
                heap: HeapType::Concrete(ty),
            })
        };
        FuncType::new(types.iter().map(reference), [])
    }

    #[test]
    fn equal_types_have_one_number_across_modules() {
        let mut numbers = TypeNumbers::default();
        let a = FuncType::new([ValType::I32], []);
        let b = FuncType::new([], [ValType::I32]);
        let first = numbers.number(
            &[a.clone(), b.clone(), a.clone(), takes(&[0]), takes(&[2])],
            &[],
        );
        assert_eq!((first[0], first[3]), (first[2], first[4]));
        assert_ne!(first[0], first[1]);
        let second = numbers.number(&[b.clone(), a, takes(&[1])], &[]);
        assert_eq!(second, [first[1], first[0], first[3]]);
        assert_eq!(numbers.number_one(&b), first[1]);
    }

    #[test]
    fn groups_are_equal_by_their_form() {
        let mut numbers = TypeNumbers::default();
        // A type that takes itself, twice; and one that takes that type, which is another.
        let found = numbers.number(&[takes(&[0]), takes(&[1]), takes(&[0])], &[1, 1, 1]);
        assert_eq!(found[0], found[1]);
        assert_ne!(found[0], found[2]);
        // Two that take each other are not one that takes itself.
        let pair = numbers.number(&[takes(&[1]), takes(&[0])], &[2]);
        assert!(!pair.contains(&found[0]));
        assert_ne!(pair[0], pair[1]);
        // The empty group counts for nothing.
        assert_eq!(numbers.number(&[takes(&[0])], &[0, 1]), [found[0]]);
    }
}

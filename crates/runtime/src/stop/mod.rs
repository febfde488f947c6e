//! What ends or holds a guest that would go on by itself: budgets; and where guests wait for each other.

pub(crate) mod fuel;
pub(crate) mod parking;

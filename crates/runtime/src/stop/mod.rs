//! What ends or holds a guest that would go on by itself: budgets.

pub(crate) mod fuel;

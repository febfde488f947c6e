//! Guests that are stopped from outside: ended, or suspended between any two instructions and resumed.

mod asynchronous;
mod guests;
mod hammer;
mod kill;
mod preempt;
mod scheduler;
mod wasi;

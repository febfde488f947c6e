//! Guests that are stopped from outside: ended, or suspended between any two instructions and resumed.

mod asynchronous;
mod awaiting;
mod fork;
mod guests;
mod hammer;
mod kill;
mod kills;
mod parked;
mod preempt;
mod races;
mod scheduler;
mod scheduler_awaiting;
mod scheduler_races;
mod stepping;
mod system_calls;
mod table;
mod wasi;
mod ways;

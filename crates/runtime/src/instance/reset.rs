//! Resetting an instance: everything that its guest could change goes back to what it was in the beginning.

use crate::error::Error;
use crate::instance::Instance;
use crate::instance::state::State;

impl Instance {
    /// Makes memories, globals, tables and segments what they were when the instance was made, those of linked
    /// modules too, in the order of linking. A suspended guest is given up: the frames of a host function that
    /// waits in the middle are unwound.
    ///
    /// A shared memory keeps its bytes and its length, since other instances may be using it; active data segments are
    /// written to it again. Embedder contexts stay, and so do the fuel and the epoch deadline. References to host objects that only the guest held are
    /// dropped. If there is a start function, it has not run (see [`Instance::run_start`]), unless the instance
    /// was made with [`InstanceBuilder::run_start_by_itself`](crate::InstanceBuilder::run_start_by_itself).
    ///
    /// # Errors
    ///
    /// [`Error::OtherThread`] if the guest was suspended in the middle of a host function on another thread, and
    /// [`Error::MemoryBorrowed`] if a view of a memory was leaked: then nothing is changed. [`Error::System`] if
    /// the system refuses: then the instance is terminated, and can be reset again. What
    /// [`Instance::run_start`] gives, if start functions run by themselves: then the reset is done, and the
    /// instance is as the start function left it.
    pub fn reset(&mut self) -> Result<(), Error> {
        let borrowed = |store: &crate::instance::store::Store| {
            let mut members = store.members.iter();
            members.any(|member| member.memory_is_borrowed())
        };
        if borrowed(&self.store) {
            return Err(Error::MemoryBorrowed);
        }
        crate::vm::resume::abandon(&self.store)?;
        self.store.limits.words().renew();
        // Half of it done is not something to run.
        self.store.state.set(State::Terminated);
        if borrowed(&self.store) {
            // Leaked by a host function that has just been unwound.
            return Err(Error::MemoryBorrowed);
        }
        self.store.forget_references();
        for member in &self.store.members {
            member.restore()?;
        }
        for member in &self.store.members {
            member.initialize()?;
        }
        let linked = self.store.members.get(1..).unwrap_or_default();
        let linked_start = linked.iter().any(|member| member.start().is_some());
        self.store.members_started.set(!linked_start);
        let has_start = linked_start || self.main()?.start().is_some();
        self.store.state.set(State::initial(has_start));
        if self.store.starts_itself.get() {
            self.run_start()?;
        }
        Ok(())
    }
}

//! The owner of an instance.

use std::ops::{Deref, DerefMut};

use crate::instance::Instance;

/// Owns an [`Instance`]: dropping it cleans the slot and gives it back to its region. It may be sent to
/// another thread while the guest does not run.
#[derive(Debug)]
pub struct InstanceHandle(Instance);

impl InstanceHandle {
    pub(crate) fn new(instance: Instance) -> Self {
        Self(instance)
    }
}

impl Deref for InstanceHandle {
    type Target = Instance;
    fn deref(&self) -> &Instance {
        &self.0
    }
}

impl DerefMut for InstanceHandle {
    fn deref_mut(&mut self) -> &mut Instance {
        &mut self.0
    }
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<InstanceHandle>();
};

//! All globals of a module by their numbers, as typed values.
//!
//! No reference to a global is given out: a value is copied at each access, so a view may be held while the
//! guest runs, and what it says is what is there now.

use std::fmt;

use selvedge_artifact::ids::GlobalIdx;
use selvedge_artifact::types::GlobalType;

use crate::error::Error;
use crate::host::vmctx::Vmctx;
use crate::instance::record::Record;
use crate::instance::{Instance, Member};
use crate::value::{References, Val};

/// The globals of a module, imported ones first, by the numbers that the module gives them. Exported or not.
#[derive(Clone, Copy)]
pub struct Globals<'a>(&'a Record);

impl Globals<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.types().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.types().is_empty()
    }

    /// The type of a global; `None` if there is no such.
    pub fn ty(&self, index: u32) -> Option<GlobalType> {
        self.types().get(index as usize).copied()
    }

    /// The value of a global; `None` if there is no such.
    pub fn get(&self, index: u32) -> Option<Val> {
        let ty = self.ty(index)?.ty;
        let raw = self.0.global_raw(GlobalIdx::new(index));
        Some(self.0.store().val_from_slot(raw, ty))
    }

    /// The values of all globals, in order.
    pub fn iter(&self) -> impl Iterator<Item = Val> + '_ {
        (0..self.len() as u32).filter_map(|index| self.get(index))
    }

    fn types(&self) -> &[GlobalType] {
        &self.0.module().info().globals
    }
}

impl fmt::Debug for Globals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The globals of a module, to be changed.
pub struct GlobalsMut<'a>(Globals<'a>);

impl<'a> GlobalsMut<'a> {
    /// The same, to be read.
    pub fn as_globals(&self) -> Globals<'a> {
        self.0
    }

    /// The value of a global; `None` if there is no such.
    pub fn get(&self, index: u32) -> Option<Val> {
        self.0.get(index)
    }

    /// Stores a value in a global.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if there is no such global or if it is constant; [`Error::ValueType`],
    /// [`Error::ForeignReference`], [`Error::InstancePreempted`].
    pub fn set(&mut self, index: u32, value: &Val) -> Result<(), Error> {
        let missing = Error::InvalidArgument("the module has no global of this number");
        let ty = self.0.ty(index).ok_or(missing)?;
        self.0.0.set_global(GlobalIdx::new(index), ty, value)
    }
}

impl fmt::Debug for GlobalsMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Record {
    /// Stores a value in a global of a type, if it may be changed and the value fits.
    pub(crate) fn set_global(
        &self,
        global: GlobalIdx,
        ty: GlobalType,
        value: &Val,
    ) -> Result<(), Error> {
        if !ty.mutable {
            return Err(Error::InvalidArgument("the global is constant"));
        }
        self.store().state.get().check_change()?;
        self.store().check_value(value, ty.ty)?;
        self.set_global_raw(global, self.store().val_to_slot(value)?);
        Ok(())
    }
}

impl Instance {
    /// The module's globals by their numbers.
    ///
    /// An older runtime gave out the words themselves, as a slice without types; here a value is copied with
    /// its type at each access, and constants stay constant.
    pub fn globals(&self) -> Globals<'_> {
        Globals(&self.store.members[0])
    }

    /// A linked module's globals by their numbers, to be changed. See [`Instance::globals`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the member is of another instance.
    pub fn member_globals_mut(&mut self, member: Member) -> Result<GlobalsMut<'_>, Error> {
        Ok(GlobalsMut(Globals(self.record(member)?)))
    }

    /// The module's globals by their numbers, to be changed. See [`Instance::globals`].
    pub fn globals_mut(&mut self) -> GlobalsMut<'_> {
        GlobalsMut(self.globals())
    }
}

impl Vmctx<'_> {
    /// The globals of the calling module by their numbers.
    pub fn globals(&self) -> Globals<'_> {
        Globals(self.caller())
    }

    /// The globals of the calling module by their numbers, to be changed. Any number of views may be held at
    /// the same time, also while the guest is called back: they give out values and no references.
    pub fn globals_mut(&self) -> GlobalsMut<'_> {
        GlobalsMut(self.globals())
    }
}

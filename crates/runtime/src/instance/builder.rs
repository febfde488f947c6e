//! Options of one instance.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use crate::error::Error;
use crate::instance::Instance;
use crate::instance::handle::InstanceHandle;
use crate::instance::record::{Record, Resolved};
use crate::instance::state::State;
use crate::instance::store::Store;
use crate::program::Program;
use crate::region::Region;
use crate::vm::store_ptr::StoreBox;

/// Makes an instance with options; see [`Region::instance_builder`].
pub struct InstanceBuilder<'a> {
    region: &'a Region,
    program: &'a Program,
    embed: HashMap<TypeId, RefCell<Box<dyn Any + Send>>>,
}

impl<'a> InstanceBuilder<'a> {
    pub(crate) fn new(region: &'a Region, program: &'a Program) -> Self {
        Self {
            region,
            program,
            embed: HashMap::new(),
        }
    }

    /// Keeps a value with the instance for host functions to find. A second one of the same type
    /// replaces the first.
    #[must_use]
    pub fn with_embed_ctx<T: Any + Send>(mut self, ctx: T) -> Self {
        self.embed
            .insert(TypeId::of::<T>(), RefCell::new(Box::new(ctx)));
        self
    }

    /// Makes the instance.
    ///
    /// # Errors
    ///
    /// See [`Region::new_instance`].
    pub fn build(self) -> Result<InstanceHandle, Error> {
        let Self {
            region,
            program,
            embed,
        } = self;
        let module = program.module();
        if !module.engine().same(region.engine()) {
            return Err(Error::OtherEngine("program"));
        }
        let slot = region.take_slot(program)?;
        let mut store = Store::new(region.engine(), region.limits());
        store.embed = embed;
        let mut store = StoreBox::new(store);
        let imports = Resolved {
            funcs: program.imports().clone(),
            tables: Vec::new(),
            memories: Vec::new(),
            globals: Vec::new(),
            tags: program.imports().tags.clone(),
        };
        let record = Record::new(store.ptr(), 0, module, imports, slot)?;
        store.add_member(record.clone());
        record.initialize()?;
        store.state.set(State::initial(module.has_start()));
        Ok(InstanceHandle::new(Instance {
            store,
            region: region.clone(),
        }))
    }
}

impl fmt::Debug for InstanceBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceBuilder")
            .field("program", self.program)
            .finish_non_exhaustive()
    }
}

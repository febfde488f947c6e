//! The state of an idle instance as a program of its own, and a second instance with the same state.
//!
//! ```text
//!   snapshot   state -> Program with an image of its own    instances begin where the state was taken
//!   fork       state -> another instance, now               pages that nobody wrote to stay shared with the image
//!   artifact   Program -> the module's file with the state  to be loaded as any other artifact
//! ```
//!
//! The state is what the guest has: memory 0, globals, tables, which segments it dropped. What the host has
//! stays behind: contexts, limits, fuel, handlers and names are those of whoever makes the new instance, and an
//! instance that holds references to host objects, or contexts, gives no snapshot.

use std::ops::Range;

use selvedge_artifact::ids::{FuncIdx, GlobalIdx};
use selvedge_artifact::image::ImageBuilder;
use selvedge_artifact::state::{EntryState, GlobalState, State};
use selvedge_artifact::types::ValType;
use selvedge_artifact::vmfields::{ENTRY_FOREIGN, KIND_GUEST};
use selvedge_artifact::write::Compiled;

use crate::error::Error;
use crate::instance::handle::InstanceHandle;
use crate::instance::record::Record;
use crate::instance::state;
use crate::instance::{Instance, MEMORY_0};
use crate::program::{Image, Program};
use crate::sys::page::page_len;
use crate::vm::context::ArraySlot;
use crate::vm::ptr::FuncRefPtr;

fn refused(why: &'static str) -> Error {
    Error::InvalidArgument(why)
}

impl Instance {
    /// The state of the instance as a program: instances that are made of it begin where this one stands now,
    /// without a start function to be run, and are reset to that. This one stays as it is.
    ///
    /// What the embedder gave to the instance stays behind: its limits, fuel, limiter and handlers.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if it is not ready to run; if there is something of the host in its state, which
    /// could mean something else later: contexts (take them out first), references to host objects or
    /// exceptions, linked modules; or if it has memories outside its slot: shared ones, those after the first,
    /// and those with 64-bit addresses or pages of one byte. [`Error::MemoryBorrowed`]; [`Error::System`] if
    /// there is no memory for its image.
    pub fn snapshot(&self) -> Result<Program, Error> {
        let main = self.freezable()?;
        if !self.store.embed.is_empty() {
            return Err(refused(
                "the instance has contexts, which a snapshot can't hold; take them out first",
            ));
        }
        let frozen = main.freeze()?;
        let image = main.freeze_memory()?;
        Ok(Program::of_state(
            main.module(),
            main.keep_imports(),
            image,
            frozen,
        ))
    }

    /// A second instance of the same region with the state that this one has now. Pages of memory that this one
    /// has not written to are shared until one of both writes to them; others are copied. A reset of the new one
    /// makes it what this one began as.
    ///
    /// It gets the limits that this one has, and nothing else that the embedder gave to this one: contexts, fuel,
    /// limiter and handlers are to be given anew.
    ///
    /// # Errors
    ///
    /// As [`Instance::snapshot`], though contexts are no obstacle, and as
    /// [`Region::new_instance`](crate::Region::new_instance); [`Error::InvalidArgument`] if this one was made of a
    /// snapshot that nobody has any more, or outside its region.
    pub fn fork(&self) -> Result<InstanceHandle, Error> {
        let main = self.freezable()?;
        let frozen = main.freeze()?;
        let (program, ranges) = match self.store.program.as_ref().and_then(|name| name.get()) {
            Some(program) => (program, main.written_ranges()),
            None if main.is_state() && !main.module().is_snapshot() => {
                return Err(refused(
                    "the snapshot that the instance was made of is gone; keep it to fork the instance",
                ));
            }
            // Its program is gone, or it is outside its region.
            None => (main.program()?, vec![0..frozen.memory_len as usize; 1]),
        };
        let builder = self.region().instance_builder(&program);
        let fork = builder.with_limits(*self.limits()).build()?;
        let copy = fork.store.members.first().ok_or(refused("no member"))?;
        copy.thaw(&frozen)?;
        main.copy_memory_to(copy, ranges)?;
        fork.store.state.set(state::State::Ready);
        Ok(fork)
    }

    /// The one member of an instance whose state can be taken.
    fn freezable(&self) -> Result<&Record, Error> {
        if self.store.state.get() != state::State::Ready {
            return Err(refused(
                "only an instance that is ready to run gives its state away",
            ));
        }
        match &self.store.members[..] {
            [main] => Ok(main),
            _ => Err(refused("an instance with linked modules keeps its state")),
        }
    }
}

impl Program {
    /// A program of [`Instance::snapshot`] as an artifact: instances of the module that is loaded from it
    /// ([`Module::from_artifact`](crate::Module::from_artifact), or here
    /// [`Module::from_compiled`](crate::Module::from_compiled)) begin with its state, in any process. It holds the
    /// code as it was compiled, and asks for the same settings.
    ///
    /// Host functions are not in it: a linker gives them anew, by the same names and types. What else the host
    /// must have in place when a guest goes on there, its maker notes as names and values, which
    /// [`Module::notes`](crate::Module::notes) tells.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the program is no snapshot; [`Error::Artifact`] if the artifact would be too
    /// large.
    pub fn to_artifact(&self, notes: &[(&str, &str)]) -> Result<Compiled, Error> {
        let module = self.module();
        let Some(state) = self.state() else {
            return Err(refused(
                "the program is no snapshot; the artifact of its module is what the compiler gave",
            ));
        };
        let mut memory = ImageBuilder::default();
        let bytes = self.image().map_or(&[][..], |image| image.bytes());
        for (at, page) in bytes.chunks(page_len()).enumerate() {
            if !crate::arch::is_zero(page) {
                memory.add((at * page_len()) as u64, page);
            }
        }
        let notes = notes.iter();
        let state = State {
            notes: notes
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..state.clone()
        };
        Ok(module.write_snapshot(state, memory)?)
    }
}

impl Record {
    /// The state but for the bytes of memory.
    fn freeze(&self) -> Result<State, Error> {
        let info = self.module().info();
        let in_slot = usize::from(info.owns_memory0());
        if info.memories.len() != in_slot {
            return Err(refused(
                "an instance with shared memories, or with others than a first one with 32-bit addresses and \
                 usual pages, keeps its state",
            ));
        }
        let memory_len = match self.memory(MEMORY_0) {
            Some(memory) => memory.len() as u64,
            None => 0,
        };
        let globals = (0..).zip(&info.globals).map(|(i, global)| {
            let raw = self.global_raw(GlobalIdx::new(i));
            self.freeze_global(global.ty, raw)
        });
        let tables = self.own_tables().iter().map(|table| {
            let mut entries = Vec::with_capacity(table.len() as usize);
            let is_func = table.ty.elem.is_func_ref();
            table.visit(self.context(), &mut |entry| {
                entries.push(self.freeze_entry(is_func, entry));
            });
            entries.into_iter().collect()
        });
        let (dropped_data, dropped_elems) = self.dropped_segments();
        Ok(State {
            memory_len,
            globals: globals.collect::<Result<_, _>>()?,
            tables: tables.collect::<Result<_, _>>()?,
            dropped_data,
            dropped_elems,
            notes: Vec::new(),
        })
    }

    fn freeze_global(&self, ty: ValType, raw: ArraySlot) -> Result<GlobalState, Error> {
        if !ty.is_ref() || raw.lo == 0 {
            return Ok(GlobalState::Bits(raw.lo, raw.hi));
        }
        match FuncRefPtr::known(raw.lo).filter(|_| ty.is_func_ref()) {
            Some(func) => Ok(GlobalState::Func(self.func_of(func)?)),
            None => Err(HOST_REFERENCE),
        }
    }

    fn freeze_entry(&self, is_func: bool, entry: u64) -> Result<EntryState, Error> {
        if !is_func {
            return match entry {
                0 => Ok(EntryState::Bits(0)),
                _ => Err(HOST_REFERENCE),
            };
        }
        if entry as u32 != ENTRY_FOREIGN {
            return Ok(EntryState::Bits(entry));
        }
        let func = self.store().foreign_func((entry >> 32) as u32);
        Ok(EntryState::Import(
            self.func_of(func.ok_or(HOST_REFERENCE)?)?,
        ))
    }

    /// The index of a function of this record, its own or imported.
    fn func_of(&self, func: FuncRefPtr) -> Result<FuncIdx, Error> {
        let found = func.get();
        let own = found.kind == KIND_GUEST && found.ctx == self.vmctx();
        let index = if own {
            self.module().func_at(found.body)
        } else {
            self.import_of_env(found.ctx)
        };
        index.ok_or(HOST_REFERENCE)
    }

    /// The bytes of memory 0 as an image. Pages of zeroes are holes in it.
    fn freeze_memory(&self) -> Result<Option<Image>, Error> {
        let Some(memory) = self.memory(MEMORY_0) else {
            return Ok(None);
        };
        let borrow = memory.borrow().ok_or(Error::MemoryBorrowed)?;
        let page = page_len();
        let pages = borrow.bytes().chunks(page).enumerate();
        let parts: Vec<(u64, &[u8])> = pages
            .filter(|(_, bytes)| !crate::arch::is_zero(bytes))
            .map(|(at, bytes)| ((at * page) as u64, bytes))
            .collect();
        let Some((last, _)) = parts.last() else {
            return Ok(None);
        };
        let image = Image::new(last + page as u64, parts.iter().copied());
        image
            .map(Some)
            .map_err(Error::system("make the image of a snapshot"))
    }

    /// Makes globals, tables and segments what they were when the state was taken, and memory 0 as long.
    pub(crate) fn thaw(&self, frozen: &State) -> Result<(), Error> {
        if let Some(memory) = self.own_memories().first()
            && memory.len() < frozen.memory_len
        {
            self.grow_own_memory(memory, frozen.memory_len)?;
        }
        for (i, global) in (0..).zip(&frozen.globals) {
            let raw = match *global {
                GlobalState::Bits(lo, hi) => ArraySlot { lo, hi },
                GlobalState::Func(func) => {
                    let func = self.func_ref(func).ok_or(HOST_REFERENCE)?;
                    ArraySlot::new(func.to_raw())
                }
            };
            self.set_global_raw(GlobalIdx::new(i), raw);
        }
        for (table, entries) in self.own_tables().iter().zip(&frozen.tables) {
            let entries = entries.iter().map(|entry| match *entry {
                EntryState::Bits(bits) => Ok(bits),
                EntryState::Import(func) => {
                    let func = self.func_ref(func).ok_or(HOST_REFERENCE)?;
                    Ok(self.foreign_entry(func))
                }
            });
            let entries = entries.collect::<Result<Vec<_>, Error>>()?;
            table.load(self.context(), self.vmctx(), &entries)?;
        }
        self.set_dropped_segments(&frozen.dropped_data, &frozen.dropped_elems);
        Ok(())
    }

    /// Copies the bytes of memory 0 to an instance of the same program that has as many, page by page where they
    /// differ, so that pages which both have of the image stay shared.
    fn copy_memory_to(&self, copy: &Self, ranges: Vec<Range<usize>>) -> Result<(), Error> {
        let (Some(from), Some(to)) = (self.memory(MEMORY_0), copy.memory(MEMORY_0)) else {
            return Ok(());
        };
        let from = from.borrow().ok_or(Error::MemoryBorrowed)?;
        let mut to = to.borrow_mut().ok_or(Error::MemoryBorrowed)?;
        let (bytes, target) = (from.bytes(), to.bytes_mut());
        for range in ranges {
            let (bytes, target) = (&bytes[range.clone()], &mut target[range]);
            for (bytes, target) in bytes.chunks(page_len()).zip(target.chunks_mut(page_len())) {
                if bytes != target {
                    target.copy_from_slice(bytes);
                }
            }
        }
        Ok(())
    }
}

const HOST_REFERENCE: Error = Error::InvalidArgument(
    "the state refers to objects of the host or to exceptions, which can't be taken along",
);

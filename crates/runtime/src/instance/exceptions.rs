//! Exceptions that the guests of a store have thrown.
//!
//! An exception that is caught without a reference lives until the next one is caught. For one that is
//! caught with a reference the guest gets a *handle*, and it lives as long as the handle can be found: in
//! a global, in a table, in the values of another exception that lives, in the hands of the host, or on
//! the guest's stack. They are looked for when handles that were made since the last time hold as many
//! bytes as those that were found then, so the work per handle is bounded; and only while an exception is
//! caught, when no register of the guest holds anything.
//!
//! On the stack every word that equals a handle keeps it. Handles have an upper half that other values
//! are unlikely to have; a guest that imitates them keeps its own exceptions alive, up to the limit.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use selvedge_artifact::ids::GlobalIdx;
use selvedge_artifact::traps::TrapCode;

use crate::error::Error;
use crate::host::tag::{Exception, Tag, UncaughtException};
use crate::instance::store::Store;
use crate::value::{ExnRef, References, check_types};
use crate::vm::context::ArraySlot;
use crate::vm::unwind::Resume;

/// Bytes that the exceptions behind all handles of a store may take.
const MAX_HELD_LEN: usize = 64 << 20;
/// Bytes up to which nothing is looked for.
const MIN_HELD_LEN: usize = 256 << 10;
/// The upper half of every handle.
const HANDLE: u64 = 0xe7c4_91d3 << 32;

/// An exception as the guest threw it.
#[derive(Debug)]
pub(crate) struct Exn {
    pub(crate) tag: Tag,
    /// Its values, as generated code holds them.
    pub(crate) values: Box<[ArraySlot]>,
}

impl Exn {
    /// Bytes that it takes, about.
    fn held_len(&self) -> usize {
        size_of::<Entry>() + size_of::<Self>() + size_of_val(&*self.values)
    }

    /// The references to exceptions among its values.
    fn inner(&self) -> impl Iterator<Item = u64> {
        let typed = self.values.iter().zip(&self.tag.ty().params);
        typed.filter_map(|(slot, ty)| ty.is_exn_ref().then_some(slot.lo))
    }
}

/// The exceptions of a store.
#[derive(Default)]
pub(crate) struct Exceptions {
    handles: RefCell<Handles>,
    /// The one whose values a landing pad is about to read.
    caught: RefCell<Option<Rc<Exn>>>,
    /// Where the guest goes on, for the trampoline to read.
    resume: Cell<Resume>,
}

#[derive(Default)]
struct Handles {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Bytes that the exceptions take.
    held_len: usize,
    /// Bytes at which those without a reference are looked for.
    threshold: usize,
}

#[derive(Default)]
struct Entry {
    exn: Option<Rc<Exn>>,
    /// Alive while the host has the handle.
    root: Weak<u64>,
    marked: bool,
}

impl Exceptions {
    /// The exception of a handle; `None` for null.
    pub(crate) fn get(&self, handle: u64) -> Option<Rc<Exn>> {
        let handles = self.handles.borrow();
        handles.entries.get(index(handle)?)?.exn.clone()
    }

    /// Keeps the exception of a handle as long as what is returned lives.
    pub(crate) fn root(&self, handle: u64) -> Option<Arc<u64>> {
        let mut handles = self.handles.borrow_mut();
        let entry = handles.entries.get_mut(index(handle)?)?;
        entry.exn.as_ref()?;
        Some(entry.root.upgrade().unwrap_or_else(|| {
            let root = Arc::new(handle);
            entry.root = Arc::downgrade(&root);
            root
        }))
    }

    /// Leaves for the trampoline where the guest goes on.
    pub(crate) fn resume_at(&self, resume: Resume) -> *const Resume {
        self.resume.set(resume);
        self.resume.as_ptr()
    }

    /// Keeps an exception until the next one is caught; the address of its values.
    pub(crate) fn keep_caught(&self, exn: &Rc<Exn>) -> usize {
        *self.caught.borrow_mut() = Some(exn.clone());
        exn.values.as_ptr().expose_provenance()
    }
}

/// Position of a handle.
fn index(handle: u64) -> Option<usize> {
    let number = handle.checked_sub(HANDLE)?.checked_sub(1)?;
    u32::try_from(number).ok().map(|number| number as usize)
}

impl Handles {
    /// Whether another exception may have a handle only after others were looked for.
    fn is_full(&self, exn: &Exn) -> bool {
        self.held_len + exn.held_len() > self.threshold.max(MIN_HELD_LEN)
    }

    /// Gives an exception a handle.
    fn add(&mut self, exn: Rc<Exn>) -> u64 {
        self.held_len += exn.held_len();
        let entry = Entry {
            exn: Some(exn),
            ..Entry::default()
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                // The limit of bytes keeps the count far below 2^32.
                (self.entries.len() - 1) as u32
            }
        };
        HANDLE + u64::from(at) + 1
    }

    /// Marks an exception and all that it refers to.
    fn mark(&mut self, handle: u64) {
        let mut found = vec![handle];
        while let Some(handle) = found.pop() {
            let entry = index(handle).and_then(|at| self.entries.get_mut(at));
            if let Some(entry) = entry
                && !entry.marked
                && let Some(exn) = &entry.exn
            {
                entry.marked = true;
                found.extend(exn.inner());
            }
        }
    }

    /// Marks what the host holds.
    fn mark_roots(&mut self) {
        for at in 0..self.entries.len() {
            if self.entries[at].root.strong_count() > 0 {
                self.mark(HANDLE + at as u64 + 1);
            }
        }
    }

    /// Drops what is not marked.
    fn sweep(&mut self) {
        for (at, entry) in self.entries.iter_mut().enumerate() {
            if entry.marked {
                entry.marked = false;
            } else if let Some(exn) = entry.exn.take() {
                self.held_len -= exn.held_len();
                self.free.push(at as u32);
            }
        }
        self.threshold = 2 * self.held_len;
    }
}

impl Store {
    /// Gives an exception that is being caught a handle. `stack` visits the words of the guest's stack that
    /// are still in use.
    pub(crate) fn exn_handle(
        &self,
        exn: Rc<Exn>,
        stack: impl FnOnce(&mut dyn FnMut(u64)),
    ) -> Result<u64, TrapCode> {
        let mut handles = self.exceptions().handles.borrow_mut();
        if handles.is_full(&exn) {
            stack(&mut |word| handles.mark(word));
            for handle in exn.inner() {
                handles.mark(handle);
            }
            handles.mark_roots();
            self.visit_exns(&mut |handle| handles.mark(handle));
            handles.sweep();
            if handles.held_len + exn.held_len() > MAX_HELD_LEN {
                return Err(TrapCode::ExceptionsExhausted);
            }
        }
        Ok(handles.add(exn))
    }

    /// Visits the references to exceptions in globals and tables.
    fn visit_exns(&self, visit: &mut dyn FnMut(u64)) {
        for member in &self.members {
            let info = member.module().info();
            for (i, global) in info.globals.iter().enumerate() {
                if global.ty.is_exn_ref() {
                    visit(member.global_raw(GlobalIdx::new(i as u32)).lo);
                }
            }
            for table in member.own_tables() {
                if table.ty.elem.is_exn_ref() {
                    table.visit(member.context(), visit);
                }
            }
        }
    }

    /// An exception as the host has it.
    pub(crate) fn exception_of(&self, exn: &Exn) -> Exception {
        let typed = exn.values.iter().zip(&exn.tag.ty().params);
        let values = typed.map(|(&slot, &ty)| self.val_from_slot(slot, ty));
        Exception::known(exn.tag.clone(), values.collect())
    }

    /// An exception of the host as the guest has it.
    pub(crate) fn exn_of(&self, exception: &Exception) -> Result<Rc<Exn>, Error> {
        let tag = exception.tag();
        check_types(
            self,
            "the tag carries",
            exception.values(),
            &tag.ty().params,
        )?;
        let values = exception.values().iter().map(|val| self.val_to_slot(val));
        Ok(Rc::new(Exn {
            tag: tag.clone(),
            values: values.collect::<Result<_, _>>()?,
        }))
    }

    /// The exception behind a reference.
    pub(crate) fn exception(&self, exn: &ExnRef) -> Result<Exception, Error> {
        let handle = self.exn_to_raw(Some(exn))?;
        let exn = self
            .exceptions()
            .get(handle)
            .ok_or(Error::ForeignReference)?;
        Ok(self.exception_of(&exn))
    }

    /// The error of an exception that left the guest.
    pub(crate) fn uncaught(&self, exception: Exception, pcs: &[usize]) -> Error {
        Error::UncaughtException(Box::new(UncaughtException {
            tag_name: self.tag_name(exception.tag()),
            exception,
            backtrace: self.backtrace(pcs),
        }))
    }

    /// What a tag is called: as an export of the first member that has it, else as an import.
    fn tag_name(&self, tag: &Tag) -> Option<String> {
        use selvedge_artifact::module::ExternIdx;
        let names = |item: ExternIdx, member: &crate::instance::record::Record| match item {
            ExternIdx::Tag(index) => member.tag(index).same(tag),
            _ => false,
        };
        let exported = self.members.iter().find_map(|member| {
            let exports = &member.module().info().exports;
            let export = exports.iter().find(|export| names(export.item, member))?;
            Some(export.name.clone())
        });
        exported.or_else(|| {
            self.members.iter().find_map(|member| {
                let imports = &member.module().info().imports;
                let import = imports.iter().find(|import| names(import.item, member))?;
                Some(format!("{}::{}", import.module, import.name))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_artifact::types::{FuncType, ValType};

    fn exn(tag: &Tag, inner: u64) -> Rc<Exn> {
        Rc::new(Exn {
            tag: tag.clone(),
            values: Box::new([ArraySlot::new(inner)]),
        })
    }

    #[test]
    fn what_is_marked_stays_with_all_that_it_refers_to_and_places_are_used_again() {
        let tag = Tag::new(FuncType::new([ValType::EXNREF], [])).unwrap();
        let exceptions = Exceptions::default();
        let mut handles = exceptions.handles.borrow_mut();
        let first = handles.add(exn(&tag, 0));
        let second = handles.add(exn(&tag, first));
        let dropped = handles.add(exn(&tag, second));
        handles.mark(second);
        handles.sweep();
        drop(handles);
        assert!(exceptions.get(first).is_some());
        assert!(exceptions.get(second).is_some());
        assert!(exceptions.get(dropped).is_none());
        let mut handles = exceptions.handles.borrow_mut();
        assert_eq!(handles.held_len, 2 * exn(&tag, 0).held_len());
        assert_eq!(handles.add(exn(&tag, 0)), dropped);
    }

    #[test]
    fn what_the_host_holds_stays_as_long_as_it_does() {
        let tag = Tag::new(FuncType::new([ValType::EXNREF], [])).unwrap();
        let exceptions = Exceptions::default();
        let handle = exceptions.handles.borrow_mut().add(exn(&tag, 0));
        let root = exceptions.root(handle).unwrap();
        assert!(Arc::ptr_eq(&root, &exceptions.root(handle).unwrap()));
        let collect = || {
            let mut handles = exceptions.handles.borrow_mut();
            handles.mark_roots();
            handles.sweep();
        };
        collect();
        assert!(exceptions.get(handle).is_some());
        drop(root);
        collect();
        assert!(exceptions.get(handle).is_none());
        assert!(exceptions.root(handle).is_none());
    }

    #[test]
    fn what_is_no_handle_names_nothing() {
        let exceptions = Exceptions::default();
        for word in [0, 1, HANDLE, HANDLE + 1, HANDLE - 1, u64::MAX] {
            assert!(exceptions.get(word).is_none(), "{word:#x}");
            exceptions.handles.borrow_mut().mark(word);
        }
    }
}

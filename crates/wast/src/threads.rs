//! Threads of scripts: `(thread $T (shared (module $M)) ...)` and `(wait $T)`.
//!
//! A thread has modules of its own. Of the one module that is shared with it, it gets the shared memories,
//! exported under their names; nothing else of an instance may be used by two threads.

use std::collections::HashMap;
use std::thread::ScopedJoinHandle;

use selvedge::{ExternType, SharedMemory};
use wast::WastThread;
use wast::token::Id;

use crate::script::{Outcome, Runner};

/// Threads that nobody has waited for yet, by name.
pub(crate) type Threads<'scope> =
    HashMap<String, ScopedJoinHandle<'scope, Result<Outcome, String>>>;

/// Where a thread imports the memories that are shared with it from.
const SHARED: &str = "shared";

impl<'env> Runner<'_, 'env> {
    /// Starts a thread.
    pub(crate) fn spawn(&mut self, thread: WastThread<'env>) -> Result<(), String> {
        let shared = match thread.shared_module {
            Some(id) => Some((id.name().to_owned(), self.shared_memories(id)?)),
            None => None,
        };
        let (world, engine) = (self.world, self.engine.clone());
        let directives = thread.directives;
        let handle = world.scope.spawn(move || {
            let mut runner = Runner::new(engine, world).map_err(|e| e.to_string())?;
            if let Some((name, memories)) = shared {
                runner.share(name, &memories)?;
            }
            Ok(runner.run(directives))
        });
        match self.threads.insert(thread.name.name().to_owned(), handle) {
            None => Ok(()),
            Some(_) => Err("there is another thread of this name".to_owned()),
        }
    }

    /// Waits for a thread, and counts what it did.
    pub(crate) fn wait_for(&mut self, thread: Id<'_>) -> Result<(), String> {
        let handle = self.threads.remove(thread.name());
        let handle = handle.ok_or_else(|| format!("there is no thread {:?}", thread.name()))?;
        self.joined(handle)
    }

    /// Waits for all threads that are left.
    pub(crate) fn wait_for_all(&mut self) {
        for (_, handle) in std::mem::take(&mut self.threads) {
            // What went wrong inside is counted; that it could not begin has no place of its own in the script.
            if let Err(message) = self.joined(handle) {
                self.outcome.failures.push(crate::Failure {
                    line: 1,
                    column: 1,
                    message,
                });
            }
        }
    }

    fn joined(
        &mut self,
        handle: ScopedJoinHandle<'_, Result<Outcome, String>>,
    ) -> Result<(), String> {
        let outcome = handle
            .join()
            .map_err(|_| "the thread panicked".to_owned())??;
        self.outcome.passed += outcome.passed;
        self.outcome.failures.extend(outcome.failures);
        Ok(())
    }

    /// The shared memories that a module exports, by name.
    fn shared_memories(&self, id: Id<'_>) -> Result<Vec<(String, SharedMemory)>, String> {
        let member = self.member(Some(id))?;
        let module = self
            .instance
            .member_module(member)
            .map_err(|e| e.to_string())?;
        let mut memories = Vec::new();
        for export in module.exports() {
            let shared = matches!(export.ty, ExternType::Memory(ty) if ty.shared);
            if shared {
                let memory = self.instance.member_shared_memory(member, export.name);
                memories.push((export.name.to_owned(), memory.map_err(|e| e.to_string())?));
            }
        }
        Ok(memories)
    }

    /// Makes a module that exports memories, under the name of the one they are of.
    fn share(&mut self, name: String, memories: &[(String, SharedMemory)]) -> Result<(), String> {
        let (mut imports, mut exports) = (String::new(), String::new());
        for (index, (export, memory)) in memories.iter().enumerate() {
            let ty = memory.ty();
            let width = if ty.is_64 { "i64 " } else { "" };
            let max = ty.max.unwrap_or(ty.min);
            imports += &format!(
                "(import {SHARED:?} {export:?} (memory {width}{} {max} shared))",
                ty.min
            );
            exports += &format!("(export {export:?} (memory {index}))");
            self.linker
                .shared_memory(SHARED, export, memory)
                .map_err(|e| e.to_string())?;
        }
        let module = self.compile(format!("(module {imports} {exports})").as_bytes())?;
        let member = self.link(&module).map_err(|e| e.to_string())?;
        self.names.insert(name, member);
        Ok(())
    }
}

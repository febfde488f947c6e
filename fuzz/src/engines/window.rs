//! Looks into a shared memory of Wasmtime without unsafe code: its face gives such a memory's bytes as cells
//! only, so a small guest that has the memory, too, copies them to where they can be seen. It has a store of its
//! own: an address in the guard of a memory that two instances of one store have trips an assertion of
//! Wasmtime's.

use wasmtime::{Engine, Error, Extern, Instance, Memory, Module, SharedMemory, Store, TypedFunc};

use super::host::Bytes;

/// A shared memory and the guest that reads and writes it.
pub(crate) struct Window {
    shared: SharedMemory,
    store: Store<()>,
    seen: Memory,
    copy: TypedFunc<i32, ()>,
    get: TypedFunc<i32, i32>,
    set: TypedFunc<(i32, i32), ()>,
}

impl Window {
    /// Makes the guest.
    pub(crate) fn new(engine: &Engine, shared: SharedMemory) -> Result<Self, Error> {
        let ty = shared.ty();
        let (index, at) = match ty.is_64() {
            true => ("i64", "(i64.extend_i32_u (local.get $at))"),
            false => ("", "(local.get $at)"),
        };
        let from = match ty.is_64() {
            true => "(i64.const 0)",
            false => "(i32.const 0)",
        };
        let (min, page) = (ty.minimum(), ty.page_size());
        let max = ty.maximum().unwrap_or(min);
        let text = format!(
            r#"(module
                (import "" "" (memory $shared {index} {min} {max} shared (pagesize {page})))
                (memory $seen (export "seen") 0)
                (func (export "copy") (param $len i32)
                    (memory.copy $seen $shared (i32.const 0) {from} (local.get $len)))
                (func (export "get") (param $at i32) (result i32)
                    (i32.load8_u $shared {at}))
                (func (export "set") (param $at i32) (param $byte i32)
                    (i32.store8 $shared {at} (local.get $byte))))"#
        );
        let module = Module::new(engine, wat::parse_str(text)?)?;
        let mut store = Store::new(engine, ());
        let imports = [Extern::SharedMemory(shared.clone())];
        let instance = Instance::new(&mut store, &module, &imports)?;
        let seen = instance.get_memory(&mut store, "seen");
        Ok(Self {
            shared,
            seen: seen.ok_or_else(|| Error::msg("the window has no memory"))?,
            copy: instance.get_typed_func(&mut store, "copy")?,
            get: instance.get_typed_func(&mut store, "get")?,
            set: instance.get_typed_func(&mut store, "set")?,
            store,
        })
    }

    /// All bytes as they are now.
    pub(crate) fn bytes(&mut self) -> Result<&[u8], Error> {
        const PAGE: usize = 1 << 16;
        let len = self.shared.data_size();
        let lacking = len.saturating_sub(self.seen.data_size(&self.store));
        let pages = lacking.div_ceil(PAGE) as u64;
        self.seen.grow(&mut self.store, pages)?;
        self.copy.call(&mut self.store, i32::try_from(len)?)?;
        Ok(&self.seen.data(&self.store)[..len])
    }

    /// An address as the guest takes it, if it is inside.
    fn place(&self, at: usize) -> Option<i32> {
        let inside = at < self.shared.data_size();
        inside.then(|| i32::try_from(at).ok()).flatten()
    }
}

impl Bytes for Window {
    fn get(&mut self, at: usize) -> Option<u8> {
        let at = self.place(at)?;
        let byte = self.get.call(&mut self.store, at).ok()?;
        u8::try_from(byte).ok()
    }

    fn set(&mut self, at: usize, byte: u8) {
        if let Some(at) = self.place(at) {
            // It is inside, so this can't fail; if it does, the next comparison tells.
            let _ = self.set.call(&mut self.store, (at, byte.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Config, Linker};

    use super::*;

    #[test]
    fn what_a_guest_writes_is_seen_and_what_is_set_is_read() {
        let mut config = Config::new();
        config.shared_memory(true).wasm_custom_page_sizes(true);
        let engine = Engine::new(&config).unwrap();
        for (index, address) in [("", "i32"), ("i64", "i64")] {
            let text = format!(
                r#"(module (memory (export "m") {index} 1 2 shared)
                    (func (export "grow") (drop (memory.grow ({address}.const 1))))
                    (func (export "write")
                        (i32.atomic.store ({address}.const 65540) (i32.const 0x07060504))))"#
            );
            let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
            let mut store = Store::new(&engine, ());
            let linker = Linker::new(&engine);
            let guest = linker.instantiate(&mut store, &module).unwrap();
            let shared = guest.get_shared_memory(&mut store, "m").unwrap();
            let mut window = Window::new(&engine, shared).unwrap();
            assert_eq!(window.bytes().unwrap().len(), 1 << 16);
            for name in ["grow", "write"] {
                let func = guest.get_typed_func::<(), ()>(&mut store, name).unwrap();
                func.call(&mut store, ()).unwrap();
            }
            assert_eq!(window.get(65541), Some(5));
            assert_eq!(window.get(2 << 16), None);
            window.set(65541, 9);
            window.set(2 << 16, 9);
            let bytes = window.bytes().unwrap();
            assert_eq!(bytes.len(), 2 << 16);
            assert_eq!(bytes[65540..65544], [4, 9, 6, 7]);
        }
    }
}

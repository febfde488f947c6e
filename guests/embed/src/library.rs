//! A guest that is a library: an instance with an allocator, and calls with strings.

use std::path::Path;

use anyhow::{Context, Result};
use selvedge::wasi::{self, WasiCtx};
use selvedge::{
    Engine, InstanceHandle, Limits, Linker, Module, Region, Settings, WasmParams, WasmResults,
};

/// An instance whose `_initialize` has run.
pub(crate) struct Library {
    instance: InstanceHandle,
    /// Makes room for so many bytes in the guest.
    allocate: fn(&mut Library, u32) -> Result<u32>,
}

impl Library {
    /// Compiles a module and links it to WASI and to what `define` adds.
    pub(crate) fn load(
        wasm: &Path,
        define: impl FnOnce(&mut Linker, &Module) -> Result<()>,
        allocate: fn(&mut Library, u32) -> Result<u32>,
    ) -> Result<Library> {
        let engine = Engine::new(&Settings::default())?;
        let module = engine.compile_file(wasm)?;
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker)?;
        define(&mut linker, &module)?;
        let program = linker.program(&module)?;

        // Interpreters recurse deeply.
        let mut limits = Limits::default();
        limits.stack_len = 16 << 20;
        let region = Region::new(&engine, 1, &limits)?;
        let ctx = WasiCtx::builder().inherit_stdio().arg("embed").build()?;
        let instance = region
            .instance_builder(&program)
            .with_embed_ctx(ctx)
            .build()?;

        let mut library = Library { instance, allocate };
        library.call::<(), ()>("_initialize", ())?;
        Ok(library)
    }

    /// Calls an export.
    pub(crate) fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        export: &str,
        params: P,
    ) -> Result<R> {
        let func = self.instance.typed_func::<P, R>(export)?;
        func.call(&mut self.instance, params)
            .with_context(|| format!("in {export}"))
    }

    /// Puts a string and a NUL into the guest; returns its address and its length without the NUL.
    pub(crate) fn put_str(&mut self, text: &str) -> Result<(u32, u32)> {
        let addr = self.put_bytes(text.as_bytes(), 1)?;
        Ok((addr, text.len() as u32))
    }

    /// Puts bytes and so many zeros into the guest; returns their address.
    pub(crate) fn put_bytes(&mut self, bytes: &[u8], zeros: usize) -> Result<u32> {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len() + zeros, 0);
        let addr = (self.allocate)(self, u32::try_from(bytes.len())?)?;
        let start = addr as usize;
        self.instance
            .heap_mut()?
            .get_mut(start..start + bytes.len())
            .context("the guest's allocator gave room outside its memory")?
            .copy_from_slice(&bytes);
        Ok(addr)
    }

    /// The 32-bit number at an address in the guest.
    pub(crate) fn u32_at(&mut self, addr: u32) -> Result<u32> {
        let heap = self.instance.heap()?;
        u32_in(&heap, addr)
    }

    /// The string that ends with a NUL at an address in the guest.
    pub(crate) fn str_at(&mut self, addr: u32) -> Result<String> {
        let heap = self.instance.heap()?;
        str_in(&heap, addr)
    }
}

/// The 32-bit number at an address in a memory.
pub(crate) fn u32_in(heap: &[u8], addr: u32) -> Result<u32> {
    let bytes = heap
        .get(addr as usize..)
        .and_then(|rest| rest.first_chunk::<4>());
    Ok(u32::from_le_bytes(
        *bytes.context("the guest gave an address outside its memory")?,
    ))
}

/// The string that ends with a NUL at an address in a memory.
pub(crate) fn str_in(heap: &[u8], addr: u32) -> Result<String> {
    let rest = heap
        .get(addr as usize..)
        .context("the guest gave an address outside its memory")?;
    let end = rest
        .iter()
        .position(|&byte| byte == 0)
        .context("the guest's string has no end")?;
    Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
}

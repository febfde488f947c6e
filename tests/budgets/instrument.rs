//! An independent count of the instructions that a module runs: the module itself counts them, in a global.
//!
//! Before every instruction code is put that adds what the instruction costs; the bytes of the module's own
//! instructions stay as they are. What costs how much is written down here once more, from the
//! documentation and not from the compiler's table. Nothing here knows of blocks, checks or registers.

use std::collections::HashMap;
use std::ops::Range;

use wasmparser::{
    CompositeInnerType, ExternalKind, FunctionBody, Operator, Parser, Payload, TypeRef,
};

/// The export of the counting global.
pub(crate) const COUNT: &str = "instructions that were run";

/// Most that the length of a range may add.
const MOST: i64 = 1 << 62;

/// Ids of the sections in the order in which they come.
const ORDER: [u8; 13] = [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11];
const GLOBALS: u8 = 6;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;

/// What an instruction adds beside its unit.
enum Length {
    /// Nothing.
    None,
    /// A unit for each item of the length on the stack.
    Items,
    /// A unit for each eight bytes begun.
    Bytes,
}

/// What an instruction costs, and whether the length on top of the stack costs, too.
fn cost(op: &Operator<'_>) -> (i64, Length) {
    use Operator as O;
    match op {
        O::Nop
        | O::Drop
        | O::Block { .. }
        | O::Loop { .. }
        | O::Else
        | O::End
        | O::Return
        | O::TryTable { .. }
        | O::Unreachable => (0, Length::None),
        O::MemoryCopy { .. } | O::MemoryFill { .. } | O::MemoryInit { .. } => (1, Length::Bytes),
        O::MemoryGrow { .. }
        | O::TableGrow { .. }
        | O::TableFill { .. }
        | O::TableCopy { .. }
        | O::TableInit { .. } => (1, Length::Items),
        _ => (1, Length::None),
    }
}

/// What has to be known of a module before its code.
#[derive(Default)]
struct Module {
    /// Parameters of each type; 0 for what is no function's.
    params: Vec<u32>,
    /// The type of each function that is defined.
    funcs: Vec<u32>,
    globals: u32,
    /// Of each memory, whether lengths in it have 64 bits; the same of tables.
    memories: Vec<bool>,
    tables: Vec<bool>,
    sections: HashMap<u8, Vec<u8>>,
}

/// The module with code that counts. The bytes must be a valid module.
pub(crate) fn instrument(wasm: &[u8]) -> Vec<u8> {
    let mut module = Module::default();
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.unwrap();
        if let Some((id, range)) = payload.as_section()
            && id != 0
        {
            module.sections.insert(id, slice(wasm, range).to_vec());
        }
        module.look_at(&payload);
        if let Payload::CodeSectionEntry(body) = payload {
            bodies.push(module.body(wasm, &body, bodies.len()));
        }
    }
    // (global (mut i64) (i64.const 0)), behind all others.
    module.append(GLOBALS, &[0x7e, 0x01, 0x42, 0x00, 0x0b]);
    let mut export = Vec::new();
    leb(&mut export, COUNT.len() as u64);
    export.extend(COUNT.bytes());
    export.push(0x03);
    leb(&mut export, module.globals.into());
    module.append(EXPORTS, &export);
    if !bodies.is_empty() {
        let mut code = Vec::new();
        leb(&mut code, bodies.len() as u64);
        for body in &bodies {
            leb(&mut code, body.len() as u64);
            code.extend(body);
        }
        module.sections.insert(CODE, code);
    }
    let mut out = wasm[..8].to_vec();
    for id in ORDER {
        if let Some(section) = module.sections.get(&id) {
            out.push(id);
            leb(&mut out, section.len() as u64);
            out.extend(section);
        }
    }
    out
}

impl Module {
    fn look_at(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    for ty in group.unwrap().into_types() {
                        self.params.push(match &ty.composite_type.inner {
                            CompositeInnerType::Func(func) => func.params().len() as u32,
                            _ => 0,
                        });
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    match import.unwrap().ty {
                        TypeRef::Global(_) => self.globals += 1,
                        TypeRef::Memory(memory) => self.memories.push(memory.memory64),
                        TypeRef::Table(table) => self.tables.push(table.table64),
                        _ => {}
                    }
                }
            }
            Payload::FunctionSection(section) => {
                self.funcs = section.clone().into_iter().map(Result::unwrap).collect();
            }
            Payload::TableSection(section) => {
                let tables = section.clone().into_iter();
                self.tables
                    .extend(tables.map(|table| table.unwrap().ty.table64));
            }
            Payload::MemorySection(section) => {
                let memories = section.clone().into_iter();
                self.memories
                    .extend(memories.map(|memory| memory.unwrap().memory64));
            }
            Payload::GlobalSection(section) => self.globals += section.count(),
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export.unwrap();
                    assert!(export.kind != ExternalKind::Global || export.name != COUNT);
                }
            }
            _ => {}
        }
    }

    /// Adds an item to the end of a section, which begins with the number of its items.
    fn append(&mut self, id: u8, item: &[u8]) {
        let old = self.sections.remove(&id).unwrap_or_else(|| vec![0]);
        let digits = 1 + old.iter().take_while(|byte| **byte & 0x80 != 0).count();
        let count = old[..digits].iter().enumerate();
        let count: u64 = count
            .map(|(i, byte)| u64::from(byte & 0x7f) << (7 * i))
            .sum();
        let mut new = Vec::new();
        leb(&mut new, count + 1);
        new.extend(&old[digits..]);
        new.extend(item);
        self.sections.insert(id, new);
    }

    /// A function body with counting code. Two locals behind all others hold lengths.
    fn body(&self, wasm: &[u8], body: &FunctionBody<'_>, number: usize) -> Vec<u8> {
        let mut locals = self.params[self.funcs[number] as usize];
        let mut out = Vec::new();
        let reader = body.get_locals_reader().unwrap();
        leb(&mut out, u64::from(reader.get_count()) + 2);
        let operators = body.get_operators_reader().unwrap();
        let declared = operators.original_position();
        // The count is replaced; the groups behind it stay.
        let mut groups = body.range().start;
        while wasm[groups as usize] & 0x80 != 0 {
            groups += 1;
        }
        out.extend(slice(wasm, groups + 1..declared));
        for local in reader {
            locals += local.unwrap().0;
        }
        out.extend([1, 0x7f, 1, 0x7e]);
        let [int, long] = [locals, locals + 1];

        let ops: Vec<_> = operators
            .into_iter_with_offsets()
            .map(Result::unwrap)
            .collect();
        let ends = ops
            .iter()
            .skip(1)
            .map(|(_, at)| *at)
            .chain([body.range().end]);
        for ((op, at), end) in ops.iter().zip(ends) {
            self.count(&mut out, op, int, long);
            out.extend(slice(wasm, *at..end));
        }
        out
    }

    /// Adds what an instruction costs to the global.
    fn count(&self, out: &mut Vec<u8>, op: &Operator<'_>, int: u32, long: u32) {
        let (units, length) = cost(op);
        if units == 0 {
            return;
        }
        if !matches!(length, Length::None) {
            // local.tee; local.get, widened if need be; local.set: the length as 64 bits.
            if self.has_long_length(op) {
                out.push(0x22);
                leb(out, long.into());
            } else {
                out.push(0x22);
                leb(out, int.into());
                out.push(0x20);
                leb(out, int.into());
                out.push(0xad);
                out.push(0x21);
                leb(out, long.into());
            }
            let get = |out: &mut Vec<u8>| {
                out.push(0x20);
                leb(out, long.into());
            };
            if matches!(length, Length::Bytes) {
                // (len >> 3) + ((len & 7) != 0)
                get(out);
                out.extend([0x42, 3, 0x88]);
                get(out);
                out.extend([0x42, 7, 0x83, 0x42, 0, 0x52, 0xad, 0x7c, 0x21]);
                leb(out, long.into());
            }
            // select(len, MOST, len < MOST), added to the global.
            self.global(out, 0x23);
            get(out);
            out.push(0x42);
            sleb(out, MOST);
            get(out);
            out.push(0x42);
            sleb(out, MOST);
            out.extend([0x54, 0x1b, 0x7c]);
            self.global(out, 0x24);
        }
        self.global(out, 0x23);
        out.push(0x42);
        sleb(out, units);
        out.push(0x7c);
        self.global(out, 0x24);
    }

    /// global.get or global.set of the count.
    fn global(&self, out: &mut Vec<u8>, opcode: u8) {
        out.push(opcode);
        leb(out, self.globals.into());
    }

    /// Whether the length on top of the stack has 64 bits.
    fn has_long_length(&self, op: &Operator<'_>) -> bool {
        use Operator as O;
        let memory = |index: &u32| self.memories[*index as usize];
        let table = |index: &u32| self.tables[*index as usize];
        match op {
            O::MemoryFill { mem } | O::MemoryGrow { mem } => memory(mem),
            O::MemoryCopy { dst_mem, src_mem } => memory(dst_mem) && memory(src_mem),
            O::TableFill { table: t } | O::TableGrow { table: t } => table(t),
            O::TableCopy {
                dst_table,
                src_table,
            } => table(dst_table) && table(src_table),
            // Segments have lengths of 32 bits.
            _ => false,
        }
    }
}

/// Bytes of the module by the parser's offsets.
fn slice(wasm: &[u8], range: Range<u64>) -> &[u8] {
    &wasm[range.start as usize..range.end as usize]
}

fn leb(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn sleb(out: &mut Vec<u8>, mut value: i64) {
    loop {
        let byte = value as u8 & 0x7f;
        value >>= 7;
        if value == 0 && byte & 0x40 == 0 || value == -1 && byte & 0x40 != 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

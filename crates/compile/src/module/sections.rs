//! Sections to metadata, one method a section.
//!
//! Every section that comes here has passed the validator; what remains is to translate it.

use std::collections::HashMap;

use selvedge_artifact::canon::TypeNumbers;
use selvedge_artifact::ids::{FuncIdx, GlobalIdx, MemoryIdx, SigIdx, TableIdx, TagIdx, TypeIdx};
use selvedge_artifact::module::{
    CodeRange, ConstOp, ElemSegment, Elements, Export, ExternIdx, Import, ModuleInfo, SegmentMode,
    SigTrampolines,
};
use selvedge_artifact::read::DWARF_SECTIONS;
use selvedge_artifact::types::{AbiSig, FuncType, GlobalType, MemoryType, TableType, ValType};
use wasmparser::{
    CompositeInnerType, DataKind, ElementItems, ElementKind, ExternalKind, KnownCustom, Name,
    NameSectionReader, Payload, RefType, TableInit, TypeRef,
};

use super::image::{self, DataSource};
use super::{Body, Module, const_expr};
use crate::env;
use crate::error::Error;

/// What has been read so far.
#[derive(Default)]
pub(super) struct Reader<'a> {
    info: ModuleInfo,
    pub(super) bodies: Vec<Body<'a>>,
    data: Vec<DataSource<'a>>,
    func_names: Vec<(u32, String)>,
    dwarf: Vec<(&'static str, &'a [u8])>,
    sigs: HashMap<AbiSig, SigIdx>,
}

impl<'a> Reader<'a> {
    /// Takes a section.
    pub(super) fn section(&mut self, payload: Payload<'a>) -> Result<(), Error> {
        match payload {
            Payload::TypeSection(section) => self.types(section),
            Payload::ImportSection(section) => self.imports(section),
            Payload::FunctionSection(section) => self.funcs(section),
            Payload::TableSection(section) => self.tables(section),
            Payload::MemorySection(section) => self.memories(section),
            Payload::GlobalSection(section) => self.globals(section),
            Payload::TagSection(section) => self.tags(section),
            Payload::ExportSection(section) => self.exports(section),
            Payload::StartSection { func, .. } => {
                self.info.start = Some(FuncIdx::new(func));
                Ok(())
            }
            Payload::ElementSection(section) => self.elems(section),
            Payload::DataSection(section) => self.data(section),
            Payload::CodeSectionStart {
                unchecked_range: range,
                ..
            } => {
                self.info.code_section_offset = range.start as u32;
                Ok(())
            }
            Payload::CustomSection(section) => {
                let known = DWARF_SECTIONS.into_iter();
                if let Some(name) = known.into_iter().find(|name| *name == section.name()) {
                    self.dwarf.push((name, section.data()));
                }
                if let KnownCustom::Name(names) = section.as_known() {
                    self.names(names);
                }
                Ok(())
            }
            // The validator has used or refused all others.
            _ => Ok(()),
        }
    }

    /// Decides what goes into images and hands everything over.
    pub(super) fn finish(mut self) -> Result<Module<'a>, Error> {
        let func_count = self.info.funcs.len() as u64;
        self.func_names
            .retain(|(index, _)| u64::from(*index) < func_count);
        let starts = self
            .bodies
            .iter()
            .map(|body| body.body.range().start as u32);
        self.info.body_offsets = starts.collect();
        let (tables, elems_may_trap) = image::tables(&mut self.info);
        let contents = image::memory(&mut self.info, &self.data, elems_may_trap)?;
        Ok(Module {
            info: self.info,
            bodies: self.bodies,
            func_names: self.func_names,
            dwarf: self.dwarf,
            image: contents.image,
            data: contents.data,
            tables,
        })
    }

    fn types(&mut self, section: wasmparser::TypeSectionReader<'a>) -> Result<(), Error> {
        for group in section.into_iter_with_offsets() {
            let (offset, group) = group?;
            self.info.type_groups.push(group.types().len() as u32);
            for ty in group.into_types() {
                if !ty.supertype_idxs.is_empty() || !ty.is_final {
                    return Err(Error::unsupported("gc", offset));
                }
                let CompositeInnerType::Func(ty) = ty.composite_type.inner else {
                    return Err(Error::unsupported("gc", offset));
                };
                let ty = FuncType {
                    params: val_types(ty.params(), offset)?,
                    results: val_types(ty.results(), offset)?,
                };
                self.add_type(ty);
            }
        }
        self.canonical_types();
        Ok(())
    }

    fn add_type(&mut self, ty: FuncType) {
        let sigs = &mut self.info.sigs;
        let sig = ty.abi();
        let sig_index = *self.sigs.entry(sig).or_insert_with_key(|sig| {
            sigs.push(SigTrampolines {
                sig: sig.clone(),
                host_to_guest: CodeRange::default(),
                guest_to_guest: CodeRange::default(),
                guest_to_host_array: CodeRange::default(),
            });
            SigIdx::new(sigs.len() as u32 - 1)
        });
        self.info.type_sigs.push(sig_index);
        self.info.types.push(ty);
    }

    /// Finds for each type the first that equals it.
    fn canonical_types(&mut self) {
        let info = &mut self.info;
        let numbers = TypeNumbers::default().number(&info.types, &info.type_groups);
        let mut first = HashMap::new();
        for (i, number) in numbers.into_iter().enumerate() {
            let index = TypeIdx::new(i as u32);
            info.canonical_types
                .push(*first.entry(number).or_insert(index));
        }
    }

    fn imports(&mut self, section: wasmparser::ImportSectionReader<'a>) -> Result<(), Error> {
        for import in section.into_imports_with_offsets() {
            let (offset, import) = import?;
            let info = &mut self.info;
            let item = match import.ty {
                TypeRef::Func(ty) => {
                    info.funcs.push(TypeIdx::new(ty));
                    info.imported.funcs += 1;
                    ExternIdx::Func(FuncIdx::new(info.funcs.len() as u32 - 1))
                }
                TypeRef::Table(ty) => {
                    info.tables.push(table_type(&ty, offset)?);
                    info.imported.tables += 1;
                    ExternIdx::Table(TableIdx::new(info.tables.len() as u32 - 1))
                }
                TypeRef::Memory(ty) => {
                    info.memories.push(memory_type(&ty));
                    info.imported.memories += 1;
                    ExternIdx::Memory(MemoryIdx::new(info.memories.len() as u32 - 1))
                }
                TypeRef::Global(ty) => {
                    info.globals.push(global_type(&ty, offset)?);
                    info.imported.globals += 1;
                    ExternIdx::Global(GlobalIdx::new(info.globals.len() as u32 - 1))
                }
                TypeRef::Tag(ty) => {
                    info.tags.push(TypeIdx::new(ty.func_type_idx));
                    info.imported.tags += 1;
                    ExternIdx::Tag(TagIdx::new(info.tags.len() as u32 - 1))
                }
                TypeRef::FuncExact(_) => {
                    return Err(Error::unsupported(
                        "imports of exact function types",
                        offset,
                    ));
                }
            };
            info.imports.push(Import {
                module: import.module.to_owned(),
                name: import.name.to_owned(),
                item,
            });
        }
        Ok(())
    }

    fn funcs(&mut self, section: wasmparser::FunctionSectionReader<'a>) -> Result<(), Error> {
        for ty in section {
            self.info.funcs.push(TypeIdx::new(ty?));
        }
        Ok(())
    }

    fn tables(&mut self, section: wasmparser::TableSectionReader<'a>) -> Result<(), Error> {
        for table in section.into_iter_with_offsets() {
            let (offset, table) = table?;
            self.info.tables.push(table_type(&table.ty, offset)?);
            self.info.table_inits.push(match table.init {
                TableInit::RefNull => None,
                TableInit::Expr(expr) => Some(const_expr::read(&expr)?),
            });
        }
        Ok(())
    }

    fn memories(&mut self, section: wasmparser::MemorySectionReader<'a>) -> Result<(), Error> {
        for memory in section {
            self.info.memories.push(memory_type(&memory?));
        }
        Ok(())
    }

    fn globals(&mut self, section: wasmparser::GlobalSectionReader<'a>) -> Result<(), Error> {
        for global in section.into_iter_with_offsets() {
            let (offset, global) = global?;
            self.info.globals.push(global_type(&global.ty, offset)?);
            self.info
                .global_inits
                .push(const_expr::read(&global.init_expr)?);
        }
        Ok(())
    }

    fn tags(&mut self, section: wasmparser::TagSectionReader<'a>) -> Result<(), Error> {
        for tag in section {
            self.info.tags.push(TypeIdx::new(tag?.func_type_idx));
        }
        Ok(())
    }

    fn exports(&mut self, section: wasmparser::ExportSectionReader<'a>) -> Result<(), Error> {
        for export in section.into_iter_with_offsets() {
            let (offset, export) = export?;
            let item = match export.kind {
                ExternalKind::Func => ExternIdx::Func(FuncIdx::new(export.index)),
                ExternalKind::Table => ExternIdx::Table(TableIdx::new(export.index)),
                ExternalKind::Memory => ExternIdx::Memory(MemoryIdx::new(export.index)),
                ExternalKind::Global => ExternIdx::Global(GlobalIdx::new(export.index)),
                ExternalKind::Tag => ExternIdx::Tag(TagIdx::new(export.index)),
                ExternalKind::FuncExact => {
                    return Err(Error::unsupported(
                        "exports of exact function types",
                        offset,
                    ));
                }
            };
            self.info.exports.push(Export {
                name: export.name.to_owned(),
                item,
            });
        }
        Ok(())
    }

    fn elems(&mut self, section: wasmparser::ElementSectionReader<'a>) -> Result<(), Error> {
        for elem in section.into_iter_with_offsets() {
            let (offset, elem) = elem?;
            let mode = match &elem.kind {
                ElementKind::Passive => SegmentMode::Passive,
                ElementKind::Declared => SegmentMode::Declared,
                ElementKind::Active {
                    table_index,
                    offset_expr,
                } => SegmentMode::Active {
                    target: TableIdx::new(table_index.unwrap_or(0)),
                    offset: const_expr::read(offset_expr)?,
                },
            };
            let (ty, elements) = elements(elem.items, offset)?;
            // A segment that only declares is dropped before any code could read it.
            let elements = match mode {
                SegmentMode::Declared => Elements::Funcs(Vec::new()),
                _ => elements,
            };
            self.info.elems.push(ElemSegment { mode, ty, elements });
        }
        Ok(())
    }

    fn data(&mut self, section: wasmparser::DataSectionReader<'a>) -> Result<(), Error> {
        for data in section {
            let data = data?;
            let mode = match data.kind {
                DataKind::Passive => SegmentMode::Passive,
                DataKind::Active {
                    memory_index,
                    offset_expr,
                } => SegmentMode::Active {
                    target: MemoryIdx::new(memory_index),
                    offset: const_expr::read(&offset_expr)?,
                },
            };
            self.data.push(DataSource {
                mode,
                bytes: data.data,
            });
        }
        Ok(())
    }

    /// Names help people only: what cannot be read of them is left out.
    fn names(&mut self, names: NameSectionReader<'a>) {
        for name in names {
            match name {
                Ok(Name::Module { name, .. }) => self.info.name = Some(name.to_owned()),
                Ok(Name::Function(names)) => {
                    for name in names {
                        let Ok(name) = name else { break };
                        let rises = self
                            .func_names
                            .last()
                            .is_none_or(|(last, _)| *last < name.index);
                        if rises {
                            self.func_names.push((name.index, name.name.to_owned()));
                        }
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}

fn elements(items: ElementItems<'_>, offset: u64) -> Result<(ValType, Elements), Error> {
    match items {
        ElementItems::Functions(funcs) => {
            let mut indices = Vec::new();
            for func in funcs {
                indices.push(FuncIdx::new(func?));
            }
            Ok((ValType::FUNCREF, Elements::Funcs(indices)))
        }
        ElementItems::Expressions(ty, exprs) => {
            let mut all = Vec::new();
            for expr in exprs {
                all.push(const_expr::read(&expr?)?);
            }
            let funcs: Option<Vec<FuncIdx>> = all
                .iter()
                .map(|expr| match expr[..] {
                    [ConstOp::RefFunc(func)] => Some(func),
                    _ => None,
                })
                .collect();
            Ok((
                ref_type(ty, offset)?,
                funcs.map_or(Elements::Exprs(all), Elements::Funcs),
            ))
        }
    }
}

fn val_types(types: &[wasmparser::ValType], offset: u64) -> Result<Vec<ValType>, Error> {
    types.iter().map(|ty| val_type(*ty, offset)).collect()
}

fn val_type(ty: wasmparser::ValType, offset: u64) -> Result<ValType, Error> {
    match ty {
        wasmparser::ValType::Ref(ty) => ref_type(ty, offset),
        scalar => env::val_type(scalar)
            .ok_or_else(|| Error::unsupported(format!("values of type {scalar}"), offset)),
    }
}

fn ref_type(ty: RefType, offset: u64) -> Result<ValType, Error> {
    match env::ref_type(ty) {
        Some(ty) => Ok(ValType::Ref(ty)),
        // What is left are the types of collected objects.
        None => Err(Error::unsupported("gc", offset)),
    }
}

fn table_type(ty: &wasmparser::TableType, offset: u64) -> Result<TableType, Error> {
    Ok(TableType {
        elem: ref_type(ty.element_type, offset)?,
        min: ty.initial,
        max: ty.maximum,
        is_64: ty.table64,
    })
}

fn memory_type(ty: &wasmparser::MemoryType) -> MemoryType {
    let usual = MemoryType::new(ty.initial, ty.maximum);
    MemoryType {
        is_64: ty.memory64,
        page_len_log2: match ty.page_size_log2 {
            // Validation admits 0 and 16.
            Some(log2) => log2 as u8,
            None => usual.page_len_log2,
        },
        shared: ty.shared,
        ..usual
    }
}

fn global_type(ty: &wasmparser::GlobalType, offset: u64) -> Result<GlobalType, Error> {
    Ok(GlobalType {
        ty: val_type(ty.content_type, offset)?,
        mutable: ty.mutable,
    })
}

//! A Wasm file taken apart: metadata, function bodies, initial contents.
//!
//! Reading and validation go hand in hand, section by section; what is kept has passed the
//! validator. Function bodies are only outlined here: they are validated while they are translated.

mod const_expr;
mod image;
mod sections;

use selvedge_artifact::ids::{DefinedFuncIdx, TableIdx};
use selvedge_artifact::module::ModuleInfo;
use wasmparser::{
    FuncToValidate, FuncValidator, FuncValidatorAllocations, FunctionBody, Parser, ValidPayload,
    Validator, ValidatorResources, WasmFeatures,
};

use crate::error::Error;
use crate::parallel;
use crate::proposals::Proposals;
use sections::Reader;

/// A module whose sections are valid.
pub(crate) struct Module<'a> {
    /// What the artifact stores. Code ranges and table images are filled in after linking.
    pub(crate) info: ModuleInfo,
    /// Functions with a body, in order.
    pub(crate) bodies: Vec<Body<'a>>,
    /// Function names by function index, rising.
    pub(crate) func_names: Vec<(u32, String)>,
    /// DWARF sections, by name.
    pub(crate) dwarf: Vec<(&'static str, &'a [u8])>,
    /// Pages of the memory image.
    pub(crate) image: Vec<u8>,
    /// Bytes of the data segments that are not in the image.
    pub(crate) data: Vec<u8>,
    /// Initial contents of tables.
    pub(crate) tables: Vec<TableContents>,
}

/// What a table holds at the start; entries behind are null.
pub(crate) struct TableContents {
    /// The table.
    pub(crate) table: TableIdx,
    /// Its first elements.
    pub(crate) funcs: Vec<Option<DefinedFuncIdx>>,
}

/// A function body that is yet to be validated.
pub(crate) struct Body<'a> {
    resources: ValidatorResources,
    features: WasmFeatures,
    index: u32,
    ty: u32,
    /// The code.
    pub(crate) body: FunctionBody<'a>,
}

impl<'a> Body<'a> {
    fn new(
        func: FuncToValidate<ValidatorResources>,
        features: WasmFeatures,
        body: FunctionBody<'a>,
    ) -> Self {
        Self {
            resources: func.resources,
            features,
            index: func.index,
            ty: func.ty,
            body,
        }
    }

    /// The validator that is to see every operator of the body.
    pub(crate) fn validator(
        &self,
        allocations: FuncValidatorAllocations,
    ) -> FuncValidator<ValidatorResources> {
        let func = FuncToValidate {
            resources: self.resources.clone(),
            index: self.index,
            ty: self.ty,
            features: self.features,
        };
        func.into_validator(allocations)
    }
}

/// Offsets in a Wasm file are 32-bit numbers with one value to spare.
const MAX_WASM_LEN: u64 = u32::MAX as u64 - 1;

impl<'a> Module<'a> {
    /// Reads a Wasm file. All counts in it are claims: nothing is allocated for them before the
    /// bytes that they promise have been seen.
    pub(crate) fn read(wasm: &'a [u8], proposals: Proposals) -> Result<Self, Error> {
        if wasm.len() as u64 > MAX_WASM_LEN {
            return Err(Error::LimitExceeded {
                what: "bytes of the Wasm file",
                found: wasm.len() as u64,
                limit: MAX_WASM_LEN,
            });
        }
        let mut parser = Parser::new(0);
        let features = proposals.module_features();
        parser.set_features(features);
        let mut validator = Validator::new_with_features(features);
        let mut reader = Reader::default();
        for payload in parser.parse_all(wasm) {
            let payload = payload?;
            match validator.payload(&payload)? {
                ValidPayload::Func(func, body) => {
                    let body = Body::new(func, proposals.body_features(), body);
                    reader.bodies.push(body);
                }
                _ => reader.section(payload)?,
            }
        }
        reader.finish()
    }

    /// Validates all function bodies.
    pub(crate) fn validate_bodies(&self, parallel: bool) -> Result<(), Error> {
        let validate = |allocations: &mut FuncValidatorAllocations, index: usize| {
            let body: &Body<'_> = &self.bodies[index];
            let mut validator = body.validator(std::mem::take(allocations));
            validator.validate(&body.body)?;
            *allocations = validator.into_allocations();
            Ok(())
        };
        let default = FuncValidatorAllocations::default;
        parallel::map(parallel, self.bodies.len(), default, validate).map(drop)
    }
}

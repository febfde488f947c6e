//! Tags and exceptions as the host has them.

use std::fmt;
use std::sync::Arc;

use selvedge_artifact::types::{FuncType, ValType};

use crate::error::Error;
use crate::fault::details::WasmBacktrace;
use crate::value::Val;

/// What tells exceptions of one kind from others: a handler catches those of its own tag. Clones are the
/// same tag; two instances of a module that defines a tag have two different ones.
#[derive(Clone)]
pub struct Tag(Arc<FuncType>);

impl Tag {
    /// Makes a tag that equals no other. The parameters of its type are what its exceptions carry.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the type has results.
    pub fn new(ty: FuncType) -> Result<Self, Error> {
        if ty.results.is_empty() {
            Ok(Self(Arc::new(ty)))
        } else {
            Err(Error::InvalidArgument("the type of a tag has no results"))
        }
    }

    /// Its type.
    pub fn ty(&self) -> &FuncType {
        &self.0
    }

    /// Whether both are the same tag.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({})", self.0)
    }
}

/// An exception: a tag and values of its type. A host function that returns one as its error throws it.
///
/// References in it are of use to the instance that they come from only.
#[derive(Clone, Debug)]
pub struct Exception {
    tag: Tag,
    values: Vec<Val>,
}

impl Exception {
    /// Makes an exception.
    ///
    /// # Errors
    ///
    /// [`Error::TypeMismatch`] if the values are not of the tag's type. What a reference refers to is
    /// compared when the exception is thrown, by the instance that knows it.
    pub fn new(tag: &Tag, values: impl Into<Vec<Val>>) -> Result<Self, Error> {
        let values = values.into();
        let types = &tag.ty().params;
        if values.len() == types.len() && values.iter().zip(types).all(|(v, ty)| may_be(v, *ty)) {
            return Ok(Self::known(tag.clone(), values));
        }
        Err(Error::TypeMismatch {
            what: "the tag carries",
            expected: tag.ty().to_string(),
            found: FuncType::new(values.iter().map(Val::ty), []).to_string(),
        })
    }

    /// Makes an exception of values that are of the tag's type.
    pub(crate) fn known(tag: Tag, values: Vec<Val>) -> Self {
        Self { tag, values }
    }

    /// The tag.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// The values.
    pub fn values(&self) -> &[Val] {
        &self.values
    }

    /// The values.
    pub fn into_values(self) -> Vec<Val> {
        self.values
    }
}

/// Whether a value may be of a type, as far as can be told without its store.
fn may_be(value: &Val, ty: ValType) -> bool {
    let is_null = matches!(
        value,
        Val::FuncRef(None) | Val::ExternRef(None) | Val::ExnRef(None)
    );
    match (value.ty(), ty) {
        (ValType::Ref(found), ValType::Ref(ty)) => {
            found.heap == ty.heap.top() && (ty.nullable || !is_null)
        }
        (found, ty) => found == ty,
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exception with the values {:?}", self.values)
    }
}

/// An exception that left the guest.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UncaughtException {
    /// The exception itself.
    pub exception: Exception,
    /// What the tag is called, by the first module of the instance that exports or imports it.
    pub tag_name: Option<String>,
    /// Where the guest was when it threw, or called the host function that did, innermost frame first.
    pub backtrace: WasmBacktrace,
}

impl fmt::Display for UncaughtException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag_name {
            Some(name) => write!(f, "uncaught exception: tag {name:?}")?,
            None => f.write_str("uncaught exception: a tag without a name")?,
        }
        write!(f, " with the values {:?}", self.exception.values)?;
        if !self.backtrace.frames.is_empty() {
            write!(f, "\n{}", self.backtrace)?;
        }
        Ok(())
    }
}

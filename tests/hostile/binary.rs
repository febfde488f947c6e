//! Modules put together byte by byte, where the text format would refuse to, or would claim nothing
//! false.

/// Sections by number.
pub(crate) const TYPE: u8 = 1;
pub(crate) const IMPORT: u8 = 2;
pub(crate) const FUNCTION: u8 = 3;
pub(crate) const TABLE: u8 = 4;
pub(crate) const MEMORY: u8 = 5;
pub(crate) const GLOBAL: u8 = 6;
pub(crate) const EXPORT: u8 = 7;
pub(crate) const TAG: u8 = 13;
pub(crate) const ELEMENT: u8 = 9;
pub(crate) const CODE: u8 = 10;
pub(crate) const DATA: u8 = 11;

/// An unsigned number in LEB128.
pub(crate) fn leb(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// Bytes with their count before them.
pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    [leb(bytes.len() as u32), bytes.to_vec()].concat()
}

/// A section.
pub(crate) fn section(id: u8, contents: &[u8]) -> Vec<u8> {
    [vec![id], sized(contents)].concat()
}

/// A module of sections.
pub(crate) fn module(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat()
}

/// The sections of a module with one function of the type `() -> ()`, whose body is this code, and the
/// `end` behind it.
pub(crate) fn one_func(locals: &[u8], code: &[u8]) -> Vec<u8> {
    let body = [locals, code, &[0x0b]].concat();
    module(&[
        section(TYPE, &[1, 0x60, 0, 0]),
        section(FUNCTION, &[1, 0]),
        section(MEMORY, &[1, 0, 1]),
        section(CODE, &[vec![1], sized(&body)].concat()),
    ])
}

/// The same without locals.
pub(crate) fn code(code: &[u8]) -> Vec<u8> {
    one_func(&[0], code)
}

//! Which segments go into images, and what the images hold.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod support;

use selvedge_artifact::image::IMAGE_PAGE_LEN;
use selvedge_artifact::module::{ElemSegment, Elements, SegmentMode};
use selvedge_artifact::vmfields::{ENTRY_FIRST_TYPE, ENTRY_NULL};
use support::Compiled;

/// `i` for a segment in the image, `a` active, `p` passive, `d` declared.
fn letter<T>(mode: &SegmentMode<T>) -> char {
    match mode {
        SegmentMode::InImage => 'i',
        SegmentMode::Active { .. } => 'a',
        SegmentMode::Passive => 'p',
        SegmentMode::Declared => 'd',
    }
}

fn data_modes(compiled: &Compiled) -> String {
    compiled
        .artifact
        .info
        .data
        .iter()
        .map(|data| letter(&data.mode))
        .collect()
}

fn elem_modes(compiled: &Compiled) -> String {
    compiled
        .artifact
        .info
        .elems
        .iter()
        .map(|elem: &ElemSegment| letter(&elem.mode))
        .collect()
}

#[test]
fn constant_data_is_merged_into_page_runs_and_later_segments_win() {
    let compiled = Compiled::new(
        r#"(module (memory 2)
            (data (i32.const 100) "first")
            (data (i32.const 102) "XX")
            (data (i32.const 70000) "far")
            (data "passive")
            (data (offset (i32.add (i32.const 4000) (i32.const 96))) "next page"))"#,
    );
    assert_eq!(data_modes(&compiled), "iiipi");
    let runs = &compiled.artifact.info.memory_image.runs;
    assert_eq!(runs.len(), 2);
    assert_eq!(
        (runs[0].memory_offset, runs[0].len),
        (0, 2 * IMAGE_PAGE_LEN)
    );
    assert_eq!(
        runs[1].memory_offset,
        70000 / IMAGE_PAGE_LEN * IMAGE_PAGE_LEN
    );
    assert_eq!(&compiled.image()[100..105], b"fiXXt");
    assert_eq!(&compiled.image()[4096..4105], b"next page");
    assert_eq!(compiled.data(), b"passive");
    let passive = &compiled.artifact.info.data[3];
    assert_eq!((passive.offset, passive.len), (0, 7));
    assert!(
        compiled
            .artifact
            .info
            .data
            .iter()
            .all(|d| d.mode != SegmentMode::InImage || d.len == 0)
    );
}

#[test]
fn data_from_the_first_doubtful_segment_on_is_left_to_the_runtime() {
    let modes = |segments: &str| {
        let compiled = Compiled::new(&format!(
            r#"(module (import "env" "base" (global $base i32)) (memory 1) {segments})"#
        ));
        assert_eq!(
            compiled.artifact.info.memory_image.runs.is_empty(),
            !data_modes(&compiled).contains('i')
        );
        data_modes(&compiled)
    };
    let fits = r#"(data (i32.const 0) "x")"#;
    let dynamic = r#"(data (global.get $base) "x")"#;
    assert_eq!(modes(&format!("{fits} {dynamic} {fits}")), "iaa");
    assert_eq!(
        modes(&format!(r#"{fits} (data (i32.const 65536) "x") {fits}"#)),
        "iaa"
    );
    assert_eq!(modes(&format!(r#"{fits} (data (i32.const -1) "x")"#)), "ia");
    assert_eq!(modes(r#"(data (i32.const 65535) "x")"#), "i");
    // Nothing to copy, but the offset is checked all the same.
    assert_eq!(modes(r#"(data (i32.const 65537) "")"#), "a");
}

#[test]
fn an_empty_segment_at_the_end_fits_and_makes_no_image() {
    let compiled = Compiled::new(r#"(module (memory 1) (data (i32.const 65536) ""))"#);
    assert_eq!(data_modes(&compiled), "i");
    assert!(compiled.artifact.info.memory_image.runs.is_empty());
}

#[test]
fn data_for_an_imported_memory_stays_active() {
    let compiled =
        Compiled::new(r#"(module (import "env" "memory" (memory 1)) (data (i32.const 0) "x"))"#);
    assert_eq!(data_modes(&compiled), "a");
    assert_eq!(compiled.data(), b"x");
}

#[test]
fn an_element_segment_that_might_not_fit_keeps_data_out_of_the_image() {
    let modes = |offset: &str| {
        let compiled = Compiled::new(&format!(
            r#"(module (import "env" "base" (global $base i32)) (memory 1) (table 1 funcref)
                (func $f) (elem (offset {offset}) func $f) (elem (i32.const 0) func $f)
                (data (i32.const 0) "x"))"#
        ));
        (elem_modes(&compiled), data_modes(&compiled))
    };
    let pair = |elems: &str, data: &str| (elems.to_owned(), data.to_owned());
    assert_eq!(modes("(i32.const 0)"), pair("ii", "i"));
    assert_eq!(modes("(i32.const 1)"), pair("aa", "a"));
    assert_eq!(modes("(global.get $base)"), pair("aa", "a"));
}

#[test]
fn scattered_data_makes_no_huge_image() {
    let segments: String = (0..2000)
        .map(|i| format!(r#"(data (i32.const {}) "x")"#, i * 65536))
        .collect();
    let compiled = Compiled::new(&format!("(module (memory 2000) {segments})"));
    assert_eq!(data_modes(&compiled), "a".repeat(2000));
    assert!(compiled.image().len() <= 1);
    assert_eq!(compiled.data().len(), 2000);
}

#[test]
fn table_images_hold_types_and_code_offsets() {
    let compiled = Compiled::new(
        "(module
            (type $unused (func (param i64)))
            (type $t (func)) (type $same (func)) (type $u (func (param i32)))
            (table $first 10 funcref) (table $second 10 20 funcref)
            (func $a (type $t)) (func $b (type $u)) (func $c (type $same))
            (elem (table $first) (i32.const 2) func $a $b $a)
            (elem (table $first) (i32.const 4) funcref (ref.func $c) (ref.null func))
            (elem (table $second) (i32.const 0) func $b)
            (elem func $a)
            (elem declare func $c))",
    );
    assert_eq!(elem_modes(&compiled), "iiipd");
    let info = &compiled.artifact.info;
    let code = |func: usize| info.code[func].offset;
    let null = (ENTRY_NULL, 0);
    assert_eq!(
        compiled.table_entries(),
        [
            null,
            null,
            (ENTRY_FIRST_TYPE + 1, code(0)),
            (ENTRY_FIRST_TYPE + 3, code(1)),
            (ENTRY_FIRST_TYPE + 1, code(2)),
            null,
            (ENTRY_FIRST_TYPE + 3, code(1)),
        ]
    );
    let images: Vec<_> = info
        .table_images
        .iter()
        .map(|i| (i.table.as_u32(), i.offset, i.len))
        .collect();
    assert_eq!(images, [(0, 0, 6), (1, 48, 1)]);
    // What is left for the guest to copy is kept, all else is gone.
    let lens: Vec<_> = info.elems.iter().map(|elem| elem.elements.len()).collect();
    assert_eq!(lens, [0, 0, 0, 1, 0]);
}

#[test]
fn segments_with_imported_functions_are_left_to_the_runtime_and_so_are_those_behind() {
    let compiled = Compiled::new(
        r#"(module
            (import "env" "f" (func $imported))
            (import "env" "table" (table $theirs 2 funcref))
            (table $first 4 funcref) (table $second 4 funcref) (table $refs 4 externref)
            (func $own)
            (elem (table $first) (i32.const 0) func $own)
            (elem (table $first) (i32.const 1) func $imported)
            (elem (table $first) (i32.const 2) func $own)
            (elem (table $second) (i32.const 0) func $own)
            (elem (table $theirs) (i32.const 1) func $own)
            (elem (table $refs) (i32.const 0) externref (ref.null extern))
            (elem (table $second) (i32.const 1) func $own))"#,
    );
    assert_eq!(elem_modes(&compiled), "iaaiaai");
    let elems = &compiled.artifact.info.elems;
    assert!(matches!(&elems[2].elements, Elements::Funcs(funcs) if funcs.len() == 1));
    let images = compiled.artifact.info.table_images.iter();
    assert_eq!(
        images
            .map(|i| (i.table.as_u32(), i.len))
            .collect::<Vec<_>>(),
        [(1, 1), (2, 2)]
    );
}

#[test]
fn a_far_element_makes_no_huge_image() {
    let compiled = Compiled::new(
        "(module (table 0xffffffff funcref) (func $f)
            (elem (i32.const 0xfffffff0) func $f) (elem (i32.const 0) func $f))",
    );
    assert_eq!(elem_modes(&compiled), "aa");
    assert!(compiled.table_entries().is_empty());
}

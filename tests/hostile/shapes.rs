//! Valid or nearly valid modules of extreme shape: very deep, very wide, very many. They compile or are
//! refused; what compiles can be instantiated.

use selvedge::OptLevel;

use crate::Host;
use crate::binary::{
    CODE, DATA, EXPORT, FUNCTION, MEMORY, TAG, TYPE, code, leb, module, one_func, section, sized,
};

const DEEP: usize = 100_000;

/// What must be compiled, fast and well, and instantiated.
fn accepted(bytes: &[u8]) {
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        let host = Host::with(opt_level);
        host.feed(bytes).unwrap();
        host.assert_usable();
    }
}

/// What may be refused, in a clear way.
fn survived(bytes: &[u8]) {
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        let host = Host::with(opt_level);
        drop(host.feed(bytes));
        host.assert_usable();
    }
}

#[test]
fn a_hundred_thousand_nested_blocks() {
    accepted(&code(
        &[[0x02, 0x40].repeat(DEEP), vec![0x0b; DEEP]].concat(),
    ));
}

#[test]
fn twenty_thousand_nested_loops() {
    accepted(&code(
        &[[0x03, 0x40].repeat(DEEP / 5), vec![0x0b; DEEP / 5]].concat(),
    ));
}

#[test]
fn ten_thousand_nested_ifs() {
    accepted(&code(
        &[
            [0x41, 1, 0x04, 0x40].repeat(DEEP / 10),
            vec![0x0b; DEEP / 10],
        ]
        .concat(),
    ));
}

#[test]
fn blocks_that_are_never_closed() {
    let host = Host::new();
    host.refused(&code(&[0x02, 0x40].repeat(DEEP)));
    host.refused(&code(&[0x0b; 1000]));
    host.assert_usable();
}

#[test]
fn a_hundred_thousand_operands_on_the_stack() {
    accepted(&code(&[[0x41, 1].repeat(DEEP), vec![0x1a; DEEP]].concat()));
    // All of them in one sum.
    let sum = [[0x41, 1].repeat(DEEP), vec![0x6a; DEEP - 1], vec![0x1a]].concat();
    accepted(&code(&sum));
}

#[test]
fn a_chain_of_loads_that_all_stay_alive() {
    // i32.const 0, i32.load, over and over; then added up.
    let loads = [0x41, 0, 0x28, 2, 0].repeat(5000);
    accepted(&code(&[loads, vec![0x6a; 4999], vec![0x1a]].concat()));
}

#[test]
fn a_branch_table_with_a_hundred_thousand_targets() {
    let targets = vec![0; DEEP + 1];
    let table = [vec![0x41, 1, 0x0e], leb(DEEP as u32), targets].concat();
    accepted(&code(&table));
}

#[test]
fn a_branch_table_to_a_thousand_blocks() {
    const BLOCKS: u32 = 1000;
    let open = [0x02, 0x40].repeat(BLOCKS as usize);
    let targets: Vec<u8> = (0..=BLOCKS).flat_map(leb).collect();
    let table = [vec![0x41, 1, 0x0e], leb(BLOCKS), targets].concat();
    accepted(&code(&[open, table, vec![0x0b; BLOCKS as usize]].concat()));
}

#[test]
fn nested_loops_that_all_change_many_locals() {
    // Every loop might need every local as a value of its own.
    const LOOPS: u32 = 300;
    const LOCALS: u32 = 300;
    let changes: Vec<u8> = (0..LOCALS)
        .flat_map(|i| [vec![0x20], leb((i + 1) % LOCALS), vec![0x21], leb(i)].concat())
        .collect();
    let open = [0x03, 0x40].repeat(LOOPS as usize);
    // Each loop goes round on the first local.
    let close = [0x20, 0, 0x0d, 0, 0x0b].repeat(LOOPS as usize);
    let locals = [vec![1], leb(LOCALS), vec![0x7f]].concat();
    accepted(&one_func(&locals, &[open, changes, close].concat()));
}

#[test]
fn branches_on_null_beside_many_locals() {
    // `block`, then `ref.null func; br_on_null 0; drop` again and again: each opens a block.
    let branches = [0xd0, 0x70, 0xd5, 0x00, 0x1a].repeat(20_000);
    let locals = [vec![1], leb(10_000), vec![0x7f]].concat();
    accepted(&one_func(
        &locals,
        &[vec![0x02, 0x40], branches, vec![0x0b]].concat(),
    ));
}

#[test]
fn fifty_thousand_locals() {
    let host = Host::new();
    let locals = |count: u32| [vec![1], leb(count), vec![0x7e]].concat();
    host.feed(&one_func(&locals(50_000), &[0x01])).unwrap();
    let message = host.refused(&one_func(&locals(50_001), &[0x01]));
    assert!(message.contains("locals"), "{message}");
    host.assert_usable();
}

#[test]
fn a_thousand_parameters_and_results() {
    let host = Host::new();
    let types = |params: u32, results: u32| {
        let list = |count: u32| [leb(count), vec![0x7e; count as usize]].concat();
        module(&[section(
            TYPE,
            &[vec![1, 0x60], list(params), list(results)].concat(),
        )])
    };
    host.feed(&types(1000, 1000)).unwrap();
    host.refused(&types(1001, 0));
    host.refused(&types(0, 1001));
    host.assert_usable();
}

#[test]
fn a_hundred_thousand_functions() {
    const COUNT: u32 = 100_000;
    let funcs = [leb(COUNT), vec![0; COUNT as usize]].concat();
    let bodies = [leb(COUNT), [2, 0, 0x0b].repeat(COUNT as usize)].concat();
    accepted(&module(&[
        section(TYPE, &[1, 0x60, 0, 0]),
        section(FUNCTION, &funcs),
        section(CODE, &bodies),
    ]));
}

#[test]
fn functions_without_bodies_and_bodies_without_functions() {
    let host = Host::new();
    let types = section(TYPE, &[1, 0x60, 0, 0]);
    host.refused(&module(&[types.clone(), section(FUNCTION, &[2, 0, 0])]));
    host.refused(&module(&[types.clone(), section(CODE, &[1, 2, 0, 0x0b])]));
    host.refused(&module(&[
        types,
        section(FUNCTION, &[2, 0, 0]),
        section(CODE, &[1, 2, 0, 0x0b]),
    ]));
    host.assert_usable();
}

#[test]
fn a_hundred_thousand_exports_and_the_same_one_twice() {
    const COUNT: u32 = 100_000;
    let exports = |names: &mut dyn Iterator<Item = String>| {
        let entries: Vec<u8> = names
            .flat_map(|name| [sized(name.as_bytes()), vec![2, 0]].concat())
            .collect();
        module(&[
            section(MEMORY, &[1, 0, 1]),
            section(EXPORT, &[leb(COUNT), entries].concat()),
        ])
    };
    let host = Host::new();
    host.feed(&exports(&mut (0..COUNT).map(|i| i.to_string())))
        .unwrap();
    let message = host.refused(&exports(&mut (0..COUNT).map(|_| "same".to_owned())));
    assert!(message.contains("duplicate export name"), "{message}");
    host.assert_usable();
}

#[test]
fn a_hundred_thousand_data_segments() {
    const COUNT: u32 = 100_000;
    // Active, at the offsets 0 to 99.
    let segments: Vec<u8> = (0..COUNT)
        .flat_map(|i| [0, 0x41, (i % 60) as u8, 0x0b, 1, i as u8])
        .collect();
    accepted(&module(&[
        section(MEMORY, &[1, 0, 1]),
        section(DATA, &[leb(COUNT), segments].concat()),
    ]));
}

#[test]
fn a_thousand_different_signatures() {
    // Each signature has trampolines of its own.
    let types: Vec<u8> = (0..1000u32)
        .flat_map(|i| {
            let params: Vec<u8> = (0..10)
                .map(|bit| [0x7e, 0x7c][(i >> bit & 1) as usize])
                .collect();
            [vec![0x60], sized(&params), vec![0]].concat()
        })
        .collect();
    accepted(&module(&[section(TYPE, &[leb(1000), types].concat())]));
}

#[test]
fn a_function_body_of_seven_megabytes() {
    let host = Host::new();
    host.feed(&code(&vec![0x01; 7_000_000])).unwrap();
    let message = host.refused(&code(&vec![0x01; 8_000_000]));
    assert!(message.contains("size"), "{message}");
    host.assert_usable();
}

#[test]
fn a_long_constant_expression() {
    // A global that is the sum of fifty thousand ones.
    let sum = [vec![0x41, 1], [0x41, 1, 0x6a].repeat(50_000), vec![0x0b]].concat();
    survived(&module(&[section(6, &[vec![1, 0x7f, 0], sum].concat())]));
    // Fifty thousand operands that wait for their operators.
    let sum = [[0x41, 1].repeat(50_001), vec![0x6a; 50_000], vec![0x0b]].concat();
    survived(&module(&[section(6, &[vec![1, 0x7f, 0], sum].concat())]));
}

#[test]
fn names_of_a_hundred_thousand_bytes() {
    survived(&module(&[
        section(MEMORY, &[1, 0, 1]),
        section(
            EXPORT,
            &[vec![1], sized(&vec![b'x'; 100_000]), vec![2, 0]].concat(),
        ),
    ]));
}

#[test]
fn dead_code_of_every_shape() {
    // unreachable, then operators on a stack that is not there.
    let host = Host::new();
    for dead in [
        &[0x6a, 0x1a][..],
        &[0x02, 0x40, 0x0c, 0, 0x6a, 0x1a, 0x0b],
        &[0x0f, 0x41, 0, 0x0d, 0],
        &[0x1b, 0x1a],
    ] {
        host.feed(&code(&[&[0x00], dead].concat())).unwrap();
    }
    host.feed(&code(
        &[vec![0x00], [0x02, 0x40].repeat(DEEP), vec![0x0b; DEEP]].concat(),
    ))
    .unwrap();
    host.assert_usable();
}

/// A function with a tag to catch, which calls itself.
fn throwing(locals: &[u8], code: &[u8]) -> Vec<u8> {
    let body = [locals, code, &[0x0b]].concat();
    module(&[
        section(TYPE, &[1, 0x60, 0, 0]),
        section(FUNCTION, &[1, 0]),
        section(TAG, &[1, 0, 0]),
        section(CODE, &[vec![1], sized(&body)].concat()),
    ])
}

/// `try_table` with one clause, `catch 0 0`.
const TRY: [u8; 6] = [0x1f, 0x40, 1, 0, 0, 0];
const CALL: [u8; 2] = [0x10, 0];

/// A call at each level has as many handlers as there are levels.
fn nested_tries(depth: usize) -> Vec<u8> {
    let calls = [CALL.as_slice(), &[0x0b]].concat();
    throwing(&[0], &[TRY.repeat(depth), calls.repeat(depth)].concat())
}

#[test]
fn three_hundred_nested_handlers_with_a_call_at_each_level() {
    accepted(&nested_tries(300));
}

#[test]
fn handlers_that_grow_with_the_square_of_the_module_are_refused() {
    let host = Host::new();
    for depth in [10_000, DEEP] {
        let message = host.refused(&nested_tries(depth));
        assert!(message.contains("handlers around the calls"), "{message}");
    }
    host.assert_usable();
}

#[test]
fn many_locals_flow_to_many_handlers() {
    let calls = [TRY.repeat(20), CALL.repeat(1000), vec![0x0b; 20]].concat();
    let sets = (0..1000).flat_map(|i| [vec![0x41, 1, 0x21], leb(i)].concat());
    let uses = (0..1000).flat_map(|i| [vec![0x20], leb(i), vec![0x1a]].concat());
    let code: Vec<u8> = sets.chain(calls).chain(uses).collect();
    accepted(&throwing(
        &[&[1][..], &leb(10_000), &[0x7f]].concat(),
        &code,
    ));
}

#[test]
fn a_hundred_thousand_tries_that_catch_nothing() {
    let empty = [0x1f, 0x40, 0].repeat(DEEP);
    let ends = [CALL.as_slice(), &[0x0b]].concat().repeat(DEEP);
    accepted(&throwing(&[0], &[empty, ends].concat()));
}

#[test]
fn a_try_with_ten_thousand_clauses() {
    let clauses = [0, 0, 0].repeat(10_000);
    let code = [
        vec![0x1f, 0x40],
        leb(10_000),
        clauses,
        CALL.repeat(5),
        vec![0x0b],
    ]
    .concat();
    accepted(&throwing(&[0], &code));
    // Clauses that no call asks cost nothing.
    let clauses = [0, 0, 0].repeat(10_000);
    let code = [vec![0x1f, 0x40], leb(10_000), clauses, vec![0x0b]].concat();
    accepted(&throwing(&[0], &code));
}

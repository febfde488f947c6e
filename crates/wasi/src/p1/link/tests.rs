//! The table against the specification, and every function against numbers that no honest guest
//! passes.

use super::*;
use crate::builder::DirPerms;
use crate::p1::harness::{Alone, CREAT, Guest, READ, WRITE};
use crate::p1::memory;
use std::collections::BTreeMap;

/// The specification's functions with their parameters, `i` of 32 bits and `I` of 64, written
/// down from it and not from the table above.
const SPECIFICATION: &str = "
    args_get ii, args_sizes_get ii, environ_get ii, environ_sizes_get ii,
    clock_res_get ii, clock_time_get iIi,
    fd_advise iIIi, fd_allocate iII, fd_close i, fd_datasync i, fd_fdstat_get ii,
    fd_fdstat_set_flags ii, fd_fdstat_set_rights iII, fd_filestat_get ii,
    fd_filestat_set_size iI, fd_filestat_set_times iIIi, fd_pread iiiIi, fd_prestat_get ii,
    fd_prestat_dir_name iii, fd_pwrite iiiIi, fd_read iiii, fd_readdir iiiIi, fd_renumber ii,
    fd_seek iIii, fd_sync i, fd_tell ii, fd_write iiii,
    path_create_directory iii, path_filestat_get iiiii, path_filestat_set_times iiiiIIi,
    path_link iiiiiii, path_open iiiiiIIii, path_readlink iiiiii, path_remove_directory iii,
    path_rename iiiiii, path_symlink iiiii, path_unlink_file iii,
    poll_oneoff iiii, proc_exit i, proc_raise i, sched_yield, random_get ii,
    sock_accept iii, sock_recv iiiiii, sock_send iiiii, sock_shutdown ii";

fn letter(ty: &str) -> char {
    if ty.ends_with("32") { 'i' } else { 'I' }
}

#[test]
fn every_function_of_the_specification_is_there_with_its_type() {
    let mut found = BTreeMap::new();
    macro_rules! present {
        ($($family:ident::$name:ident($($arg:ident: $ty:ty),*);)*) => {$(
            let types: &[&str] = &[$(stringify!($ty)),*];
            let types: String = types.iter().copied().map(letter).collect();
            assert_eq!(found.insert(stringify!($name), types), None, stringify!($name));
        )*};
    }
    functions!(present);
    waiting_functions!(present);
    macro_rules! absent {
        ($($name:ident($($arg:ident: $ty:ty),*);)*) => {$(
            let types: &[&str] = &[$(stringify!($ty)),*];
            let types: String = types.iter().copied().map(letter).collect();
            assert_eq!(found.insert(stringify!($name), types), None, stringify!($name));
        )*};
    }
    absent_functions!(absent);
    found.insert("proc_exit", "i".to_owned());
    let expected: BTreeMap<_, _> = SPECIFICATION
        .split(',')
        .map(|entry| {
            let mut words = entry.split_whitespace();
            (
                words.next().unwrap(),
                words.next().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(found.len(), 46);
}

#[test]
fn linking_twice_is_an_error_and_not_a_surprise() {
    let engine = selvedge_runtime::Engine::new().unwrap();
    let mut linker = Linker::new(&engine);
    add_to_linker(&mut linker).unwrap();
    let error = add_to_linker(&mut linker).unwrap_err();
    assert!(
        error.to_string().contains("wasi_snapshot_preview1"),
        "{error}"
    );
}

/// Numbers at the edges of things: of a memory of 512 bytes, of the table of descriptors, of types.
trait Edge: Copy + 'static {
    const EDGES: &'static [Self];
}

impl Edge for u32 {
    const EDGES: &'static [u32] = &[
        0,
        1,
        2,
        3,
        4,
        5,
        16,
        64,
        255,
        504,
        508,
        511,
        512,
        513,
        1 << 31,
        !3,
        !0,
    ];
}

impl Edge for u64 {
    const EDGES: &'static [u64] = &[0, 1, 2, 64, 66, 1 << 30, 1 << 63, !(1 << 63), !0];
}

impl Edge for i64 {
    const EDGES: &'static [i64] = &[0, 1, -1, 5, i64::MAX, i64::MIN];
}

/// A small generator with a fixed start, so that a failure comes back.
struct Picks(u64);

impl Picks {
    fn pick<T: Edge>(&mut self) -> T {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        T::EDGES[(self.0 >> 33) as usize % T::EDGES.len()]
    }
}

#[test]
fn no_function_panics_or_waits_whatever_numbers_it_gets() {
    const ROUNDS: usize = 2_000;
    let mut guest = Guest::new();
    guest.host_write("f", "content");
    let mut picks = Picks(1);
    let mut refused = 0;
    macro_rules! hammer {
        ($($family:ident::$name:ident($($arg:ident: $ty:ty),*);)*) => {$(
            for round in 0..ROUNDS {
                // Anew each time: the descriptors may be closed, and a memory that earlier calls
                // filled could ask `poll_oneoff` for a long sleep. One of zeros asks for none.
                guest.ctx = guest.reopened(DirPerms::Mutate);
                guest.bytes.resize(0x10000, 0);
                guest.open("f", CREAT, READ | WRITE).unwrap();
                guest.bytes.truncate(512);
                guest.bytes.fill(0);
                // A path at 0, and at 64 a list of two buffers with addresses and lengths to match.
                memory::write(&mut guest.bytes, 0, b"f").unwrap();
                memory::write_u32(&mut guest.bytes, 64, picks.pick()).unwrap();
                memory::write_u32(&mut guest.bytes, 68, picks.pick()).unwrap();
                memory::write_u32(&mut guest.bytes, 76, picks.pick()).unwrap();
                $(let $arg: $ty = picks.pick();)*
                let outcome = $family::$name(&mut guest.ctx, &mut guest.bytes, $($arg),*);
                refused += usize::from(outcome.is_err());
                assert_eq!(guest.bytes.len(), 512, "round {round} of {}", stringify!($name));
            }
        )*};
    }
    functions!(hammer);
    macro_rules! hammer_alone {
        ($($family:ident::$name:ident($($arg:ident: $ty:ty),*);)*) => {
            /// The functions as a guest has them that nobody ends.
            #[allow(
                clippy::too_many_arguments,
                reason = "the signatures are the specification's"
            )]
            mod alone {
                use super::*;
                $(pub(super) fn $name(
                    ctx: &mut WasiCtx, bytes: &mut dyn Memory, $($arg: $ty),*
                ) -> Result<(), Errno> {
                    $family::$name(&Alone, ctx, bytes, $($arg),*)
                })*
            }
            hammer!($(alone::$name($($arg: $ty),*);)*);
        };
    }
    waiting_functions!(hammer_alone);
    assert!(refused > 0, "the numbers are not as bad as they should be");
}

//! The C guests, and the smallest one of all.

use std::fs;

use crate::program::{Guest, text, with_data};

#[test]
fn hello_prints_its_line() {
    for guest in Guest::at_all_levels("hello.wat") {
        assert_eq!(
            guest.run(&[], "", |_| {}).output(),
            "hello from a sandbox\n"
        );
    }
}

/// The line that `count` prints of a text.
fn counted(text: &str, name: &str) -> String {
    let (lines, words) = (text.matches('\n').count(), text.split_whitespace().count());
    format!("{lines} {words} {} {name}\n", text.len())
}

#[test]
fn count_counts_files_and_sums_them_up_if_the_environment_says_so() {
    let line = counted(&text(), "/data/selvedge.txt");
    let total = counted(&text().repeat(2), "total");
    for guest in Guest::at_all_levels("c/count.wasm") {
        let once = guest.run(&["/data/selvedge.txt"], "", with_data);
        assert_eq!(once.output(), line);
        let twice = guest.run(&["/data/selvedge.txt"; 2], "", |builder| {
            with_data(builder);
            builder.env("COUNT_TOTAL", "1");
        });
        assert_eq!(twice.output(), format!("{line}{line}{total}"));
    }
}

#[test]
fn count_reads_standard_input() {
    let guest = Guest::new("c/count.wasm", selvedge::OptLevel::Speed);
    for text in [
        "",
        "one",
        "one two\nthree\n",
        &"a longer line of words\n".repeat(10_000),
    ] {
        assert_eq!(guest.run(&[], text, |_| {}).output(), counted(text, "-"));
    }
}

#[test]
fn count_fails_for_what_is_not_there_or_not_given() {
    let guest = Guest::new("c/count.wasm", selvedge::OptLevel::Speed);
    let cases = [
        ("missing", 1, "count: missing: "),
        ("/data/missing", 1, "count: /data/missing: No such file"),
        ("/data/../../c/count.c", 1, "count: /data/../../c/count.c: "),
        ("-x", 2, "usage: count"),
    ];
    for (arg, code, message) in cases {
        let ended = guest.run(&[arg], "", with_data);
        assert_eq!(*ended.code.as_ref().unwrap(), code, "{ended:?}");
        assert!(ended.stderr.starts_with(message), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
}

/// CRC-32, bit by bit.
fn crc32(numbers: &[u32]) -> u32 {
    let bytes = numbers.iter().flat_map(|n| n.to_le_bytes());
    !bytes.fold(!0, |mut crc: u32, byte| {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                0xedb8_8320 ^ (crc >> 1)
            } else {
                crc >> 1
            };
        }
        crc
    })
}

/// What `sort` prints.
fn sorted(count: usize, seed: u64) -> String {
    let mut state = seed;
    let mut numbers: Vec<u32> = (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        })
        .collect();
    let sum: u64 = numbers.iter().map(|&n| u64::from(n)).sum();
    let roots: f64 = numbers
        .iter()
        .fold(0.0, |sum, &n| sum + f64::from(n).sqrt());
    let mut out = format!(
        "{count} numbers, sum {sum}, roots {roots:.3}, crc32 {:08x}\n",
        crc32(&numbers)
    );
    let mut show = |name: &str, numbers: &[u32]| {
        let [first, .., last] = numbers else { return };
        let (median, crc) = (numbers[count / 2], crc32(numbers));
        out += &format!("{name}: first {first}, median {median}, last {last}, crc32 {crc:08x}\n");
    };
    numbers.sort_unstable();
    show("ascending", &numbers);
    numbers.reverse();
    show("descending", &numbers);
    numbers.sort_unstable_by_key(|n| (n.count_ones(), *n));
    show("by weight", &numbers);
    out
}

#[test]
fn sort_sorts_three_ways() {
    for guest in Guest::at_all_levels("c/sort.wasm") {
        assert_eq!(guest.run(&[], "", |_| {}).output(), sorted(200_000, 1));
        assert_eq!(
            guest.run(&["1000", "7"], "", |_| {}).output(),
            sorted(1000, 7)
        );
    }
}

#[test]
fn sort_has_megabytes_of_memory_if_it_asks() {
    let guest = Guest::new("c/sort.wasm", selvedge::OptLevel::Speed);
    let ended = guest.run(&["1000000", "3"], "", |_| {});
    assert_eq!(ended.output(), sorted(1_000_000, 3));
    let ended = guest.run(&["0"], "", |_| {});
    assert!(matches!(ended.code, Ok(2)));
}

#[test]
fn files_leaves_its_folder_as_it_was() {
    for guest in Guest::at_all_levels("c/files.wasm") {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "untouched").unwrap();
        let ended = guest.run(&["/w"], "", |builder| {
            builder.preopened_dir(folder.path(), "/w").unwrap();
        });
        let expected = "a has 16 bytes\na is \"01X3\"\nbefore: a sub\nafter: sub\n";
        let output = ended.output();
        assert!(output.starts_with(expected), "{output}");
        assert!(output.ends_with("\ndone\n"), "{output}");
        assert_eq!(output.lines().count(), 6);
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["mine"]);
        assert_eq!(
            fs::read_to_string(folder.path().join("mine")).unwrap(),
            "untouched"
        );
    }
}

#[test]
fn files_changes_nothing_where_it_may_only_read() {
    let guest = Guest::new("c/files.wasm", selvedge::OptLevel::Speed);
    let folder = tempfile::tempdir().unwrap();
    let ended = guest.run(&["/w"], "", |builder| {
        let perms = selvedge::wasi::DirPerms::Read;
        builder
            .preopened_dir_with(folder.path(), "/w", perms)
            .unwrap();
    });
    assert!(matches!(ended.code, Ok(1)), "{ended:?}");
    assert!(ended.stderr.starts_with("files: mkdir: "), "{ended:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

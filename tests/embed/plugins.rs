//! The example of a plug-in host works as it says, again and again.

#[path = "../../crates/selvedge/examples/plugins.rs"]
mod example;

#[test]
fn a_plug_in_host_survives_its_plug_ins() {
    let mut host = example::host_with_plugins().unwrap();
    for price in [21, 22, 23] {
        let report = host.ask(price).unwrap();
        let [says, double, endless, nosy, greedy] = &report[..] else {
            panic!("{report:?}");
        };
        assert_eq!(says, "double says \"doubling\"");
        assert_eq!(*double, format!("double: {}", price * 2));
        assert!(
            endless.starts_with("endless: failed, ") && endless.contains("stack"),
            "{endless}"
        );
        assert!(
            nosy.contains("100 bytes at guest address 0xfffa are not inside its memory"),
            "{nosy}"
        );
        assert!(
            greedy.contains("raise total_memory_len in the limits"),
            "{greedy}"
        );
    }
}

#[test]
fn a_plug_in_host_refuses_what_is_no_plug_in() {
    let mut host = example::Host::new().unwrap();
    assert!(host.load("garbage", b"\0asm garbage").is_err());
    let unknown = r#"(module (import "host" "format_disk" (func)))"#;
    assert!(host.load("unknown import", unknown.as_bytes()).is_err());
    assert!(host.load("too large", b"(module (memory 17))").is_err());
    let trapping = "(module (func $f unreachable) (start $f))";
    assert!(host.load("start traps", trapping.as_bytes()).is_err());
    assert!(host.ask(1).unwrap().is_empty());
}

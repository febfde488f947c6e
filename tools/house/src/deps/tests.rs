//! Tests of the rules of dependencies, over graphs written by hand and one from cargo's own text.

use super::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn rules() -> DepsRules {
    DepsRules {
        edges: [
            ("low".to_owned(), vec![]),
            ("high".to_owned(), strings(&["low"])),
            ("tests".to_owned(), strings(&["*"])),
        ]
        .into(),
        dev_edges: [("low".to_owned(), strings(&["tests"]))].into(),
        rationale: "RATIONALE.md".into(),
        unreachable: vec![
            Unreachable {
                from: "low".into(),
                to: strings(&["codegen-*"]),
                all_kinds: false,
                why: "no compiler".into(),
            },
            Unreachable {
                from: "*".into(),
                to: strings(&["peer"]),
                all_kinds: true,
                why: "peers are measured elsewhere".into(),
            },
        ],
    }
}

/// Three packages of ours; `edges` are `(from, kind, to)`, declared and resolved alike.
fn graph(edges: &[(&str, DependencyKind, &str)]) -> Graph {
    let mut graph = Graph::default();
    for name in ["low", "high", "tests"] {
        graph.ours.insert(name.into(), format!("{name}/Cargo.toml"));
        graph.packages.entry(name.into()).or_default();
    }
    for (from, kind, to) in edges {
        let ours = graph.ours.contains_key(*to);
        let package = graph.packages.entry((*from).to_owned()).or_default();
        let normal = *kind == DependencyKind::Normal;
        let edges = if normal {
            &mut package.normal
        } else {
            &mut package.other
        };
        edges.insert((*to).to_owned());
        if ours {
            let dev = *kind == DependencyKind::Development;
            let declared = if dev {
                &mut package.declared_dev
            } else {
                &mut package.declared
            };
            declared.insert((*to).to_owned());
        }
    }
    graph
}

fn found(edges: &[(&str, DependencyKind, &str)]) -> Vec<String> {
    let tree = Tree::of(&[
        (
            "Cargo.toml",
            "[workspace.dependencies]\nserde = \"1\"\nlow = { path = \"low\" }\n",
        ),
        ("RATIONALE.md", "- `serde`: words\n"),
        (
            "low/Cargo.toml",
            "[package]\nname = \"low\"\n[dependencies]\nhigh.workspace = true\n",
        ),
    ]);
    check(&tree, &rules(), &graph(edges))
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[track_caller]
fn finds(edges: &[(&str, DependencyKind, &str)], words: &str) {
    let found = found(edges);
    assert!(
        found.len() == 1 && found[0].contains(words),
        "{found:?} should be one with {words:?}"
    );
}

use DependencyKind::{Build, Development, Normal};

#[test]
fn edges_of_the_table_pass() {
    let edges = [
        ("high", Normal, "low"),
        ("tests", Normal, "high"),
        ("tests", Development, "low"),
    ];
    assert_eq!(found(&edges), [""; 0]);
    assert_eq!(found(&[("low", Development, "tests")]), [""; 0]);
}

#[test]
fn an_edge_upwards_is_found_at_its_line() {
    finds(
        &[("low", Normal, "high")],
        "low/Cargo.toml:4: deps: low names high",
    );
    finds(&[("low", Build, "high")], "low names high");
    finds(
        &[("low", Development, "high")],
        "the tests of low name high",
    );
    finds(&[("low", Normal, "tests")], "low names tests");
}

#[test]
fn a_package_that_is_not_in_the_table_is_found() {
    let mut graph = graph(&[]);
    graph.ours.insert("new".into(), "new/Cargo.toml".into());
    let tree = Tree::of(&[("Cargo.toml", "[workspace]\n")]);
    let found = check(&tree, &rules(), &graph);
    assert!(
        found.len() == 1 && found[0].message.contains("new is not in the table"),
        "{found:?}"
    );
}

#[test]
fn what_must_not_be_reached_is_found_with_the_way_to_it() {
    finds(
        &[
            ("low", Normal, "a"),
            ("a", Normal, "b"),
            ("b", Normal, "codegen-x"),
        ],
        "low -> a -> b -> codegen-x: no compiler",
    );
    assert_eq!(found(&[("low", Development, "codegen-x")]), [""; 0]);
    assert_eq!(
        found(&[("low", Normal, "a"), ("a", Build, "codegen-x")]),
        [""; 0]
    );
    assert_eq!(found(&[("high", Normal, "codegen-x")]), [""; 0]);
    assert_eq!(
        found(&[("low", Normal, "a"), ("a", Normal, "low")]),
        [""; 0]
    );
}

#[test]
fn peers_are_found_in_any_kind_of_dependency_of_ours() {
    finds(&[("high", Normal, "peer")], "high -> peer");
    finds(&[("high", Development, "peer")], "high -> peer");
    finds(
        &[("high", Build, "a"), ("a", Normal, "peer")],
        "high -> a -> peer",
    );
    assert_eq!(
        found(&[("high", Normal, "a"), ("a", Development, "peer")]),
        [""; 0]
    );
    assert_eq!(found(&[("high", Normal, "peer-internal")]), [""; 0]);
}

#[test]
fn a_third_party_crate_without_a_reason_is_found() {
    let tree = Tree::of(&[
        (
            "Cargo.toml",
            "[workspace.dependencies]\nserde = \"1\"\ntoml = \"1\"\nlow = \"1\"\n",
        ),
        ("RATIONALE.md", "`serde`, and toml in passing"),
    ]);
    let found = check(&tree, &rules(), &graph(&[]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].line, 3);
    assert!(
        found[0]
            .message
            .contains("`toml` has no line in RATIONALE.md"),
        "{found:?}"
    );
}

#[test]
fn the_workspace_itself_is_read_from_cargo() {
    let root = crate::tree::find_root().unwrap();
    let graph = Graph::load(&root).unwrap();
    assert_eq!(graph.ours["selvedge-house"], "tools/house/Cargo.toml");
    assert!(
        graph.packages["selvedge"]
            .declared
            .contains("selvedge-runtime")
    );
    assert!(
        graph.packages["selvedge-house"]
            .normal
            .contains("cargo_metadata")
    );
    let to_cranelift = Unreachable {
        from: "selvedge-compile".into(),
        to: strings(&["cranelift-*"]),
        all_kinds: false,
        why: String::new(),
    };
    assert!(graph.chain("selvedge-compile", &to_cranelift).is_some());
}

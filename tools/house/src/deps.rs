//! Who depends on whom: the edges between our packages against the table of the rules, packages that
//! must stay out of reach, and the line that every third-party crate has in the rationale.
//!
//! The facts come from `cargo metadata` for the machine at hand; the rules see only [`Graph`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand};

use crate::Finding;
use crate::rules::{DepsRules, Unreachable};
use crate::tree::Tree;

const RULE: &str = "deps";

/// The packages of the build and the edges between them.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    packages: BTreeMap<String, Package>,
    /// Package of ours and the manifest that names it.
    ours: BTreeMap<String, String>,
}

/// What is known of a package. Two versions of one package are one here.
#[derive(Debug, Default)]
struct Package {
    /// `[dependencies]`, as resolved.
    normal: BTreeSet<String>,
    /// Dev- and build-dependencies, as resolved.
    other: BTreeSet<String>,
    /// Of one of ours: the packages of ours it declares outside `[dev-dependencies]`, for any target.
    declared: BTreeSet<String>,
    /// Of one of ours: the packages of ours it declares in `[dev-dependencies]`.
    declared_dev: BTreeSet<String>,
}

impl Graph {
    /// Asks cargo. `--locked`: a check changes nothing.
    pub(crate) fn load(root: &Path) -> Result<Self, String> {
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .features(CargoOpt::AllFeatures)
            .other_options(["--locked", "--filter-platform", "host-tuple"].map(str::to_owned))
            .exec()
            .map_err(|e| format!("cargo metadata failed: {e}"))?;
        Ok(Self::from_metadata(&metadata, root))
    }

    fn from_metadata(metadata: &Metadata, root: &Path) -> Self {
        let mut graph = Self::default();
        for package in metadata.workspace_packages() {
            let manifest = package.manifest_path.as_std_path();
            let manifest = manifest.strip_prefix(root).unwrap_or(manifest);
            graph
                .ours
                .insert(package.name.to_string(), manifest.display().to_string());
        }
        for package in metadata.workspace_packages() {
            let entry = graph.packages.entry(package.name.to_string()).or_default();
            for dependency in &package.dependencies {
                if graph.ours.contains_key(&dependency.name) {
                    let dev = dependency.kind == DependencyKind::Development;
                    let declared = if dev {
                        &mut entry.declared_dev
                    } else {
                        &mut entry.declared
                    };
                    declared.insert(dependency.name.clone());
                }
            }
        }
        let names: BTreeMap<_, _> = metadata
            .packages
            .iter()
            .map(|p| (&p.id, p.name.to_string()))
            .collect();
        for node in metadata.resolve.iter().flat_map(|resolve| &resolve.nodes) {
            let Some(name) = names.get(&node.id) else {
                continue;
            };
            let entry = graph.packages.entry(name.clone()).or_default();
            for dependency in &node.deps {
                let Some(to) = names.get(&dependency.pkg) else {
                    continue;
                };
                for kind in &dependency.dep_kinds {
                    let normal = kind.kind == DependencyKind::Normal;
                    let edges = if normal {
                        &mut entry.normal
                    } else {
                        &mut entry.other
                    };
                    edges.insert(to.clone());
                }
            }
        }
        graph
    }

    /// The shortest chain of packages from `from` to one that `to` names.
    fn chain(&self, from: &str, rule: &Unreachable) -> Option<Vec<String>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(name) = queue.pop_front() {
            if name != from && rule.to.iter().any(|pattern| names_package(pattern, name)) {
                let mut chain = vec![name.to_owned()];
                let mut at = name;
                while let Some(&before) = came_from.get(at) {
                    chain.push(before.to_owned());
                    at = before;
                }
                chain.reverse();
                return Some(chain);
            }
            let Some(package) = self.packages.get(name) else {
                continue;
            };
            let ours = self.ours.contains_key(name);
            let other = package.other.iter().filter(|_| rule.all_kinds && ours);
            for next in package.normal.iter().chain(other) {
                if next != from && !came_from.contains_key(next.as_str()) {
                    came_from.insert(next, name);
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

/// Whether `pattern`, perhaps with a `*` at its end, names `package`.
fn names_package(pattern: &str, package: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => package.starts_with(start),
        None => pattern == package,
    }
}

/// Checks the edges, the reach and the rationale.
pub(crate) fn check(tree: &Tree, rules: &DepsRules, graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, manifest) in &graph.ours {
        check_edges(tree, rules, graph, name, manifest, &mut findings);
        for rule in rules
            .unreachable
            .iter()
            .filter(|r| r.from == "*" || r.from == *name)
        {
            if let Some(chain) = graph.chain(name, rule) {
                let line = line_of(tree, manifest, &chain[1]);
                let message = format!("{}: {}, cut the chain", chain.join(" -> "), rule.why);
                findings.push(Finding::new(manifest, line, RULE, message));
            }
        }
    }
    check_rationale(tree, rules, graph, &mut findings);
    findings
}

/// The edges of one package of ours.
fn check_edges(
    tree: &Tree,
    rules: &DepsRules,
    graph: &Graph,
    name: &str,
    manifest: &str,
    findings: &mut Vec<Finding>,
) {
    let Some(allowed) = rules.edges.get(name) else {
        let message = format!("{name} is not in the table of edges, say there what it may name");
        findings.push(Finding::new(manifest, 1, RULE, message));
        return;
    };
    let Some(package) = graph.packages.get(name) else {
        return;
    };
    let may =
        |list: &[String], to: &str| list.iter().any(|allowed| allowed == "*" || allowed == to);
    let none = Vec::new();
    let allowed_dev = rules.dev_edges.get(name).unwrap_or(&none);
    for to in package.declared.iter().filter(|to| !may(allowed, to)) {
        let message = format!("{name} names {to}, depend downwards only or change the table");
        findings.push(Finding::new(
            manifest,
            line_of(tree, manifest, to),
            RULE,
            message,
        ));
    }
    for to in &package.declared_dev {
        if !may(allowed, to) && !may(allowed_dev, to) {
            let message =
                format!("the tests of {name} name {to}, move them to tests/ or change the table");
            findings.push(Finding::new(
                manifest,
                line_of(tree, manifest, to),
                RULE,
                message,
            ));
        }
    }
}

/// Every third-party crate of the workspace has its line in the rationale.
fn check_rationale(tree: &Tree, rules: &DepsRules, graph: &Graph, findings: &mut Vec<Finding>) {
    let manifest = "Cargo.toml";
    let table = tree
        .text(manifest)
        .and_then(|text| toml::from_str::<toml::Table>(text).ok());
    let Some(table) = table else {
        let message = "the manifest of the workspace cannot be read, mend it";
        findings.push(Finding::new(manifest, 1, RULE, message));
        return;
    };
    let dependencies = table
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(|dependencies| dependencies.as_table());
    let rationale = tree.text(&rules.rationale).unwrap_or("");
    for name in dependencies.into_iter().flat_map(|table| table.keys()) {
        if !graph.ours.contains_key(name) && !rationale.contains(&format!("`{name}`")) {
            let message = format!(
                "`{name}` has no line in {}, say what it saves and costs",
                rules.rationale
            );
            findings.push(Finding::new(
                manifest,
                line_of(tree, manifest, name),
                RULE,
                message,
            ));
        }
    }
}

/// The line of `manifest` that begins with the dependency `name`, else the first.
fn line_of(tree: &Tree, manifest: &str, name: &str) -> usize {
    let begins = |line: &str| {
        line.trim_start()
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    tree.text(manifest)
        .and_then(|text| text.lines().position(begins))
        .map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests;

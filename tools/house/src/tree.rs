//! The files that the rules look at: what git tracks or would track, and their text.
//!
//! Paths are relative to the root with `/` between folders. Ignored files are not in the tree, so a
//! document may not lean on them either.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::rules::RULES_PATH;

/// Endings of the files whose text is read; of others only the path is known.
const TEXT_ENDINGS: [&str; 7] = [".rs", ".md", ".sh", ".wat", ".toml", ".c", ".h"];

/// Folders that the walk leaves out where git is not there to say so.
const NOT_WALKED: [&str; 4] = [".git", "target", "guests/fetched", "node_modules"];

/// What is known of a file.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// A text file, whole.
    Text(String),
    /// A file that should be text and is not UTF-8.
    NotUtf8,
    /// A file of which only the path matters.
    Unread,
}

/// The files of the repository.
#[derive(Debug)]
pub(crate) struct Tree {
    files: BTreeMap<String, Content>,
}

impl Tree {
    /// Lists and reads the files below `root`.
    pub(crate) fn load(root: &Path) -> Result<Self, String> {
        let paths = match git_files(root) {
            Some(paths) => paths,
            None => {
                let mut paths = Vec::new();
                walk(root, "", &mut paths)?;
                paths
            }
        };
        let mut files = BTreeMap::new();
        for path in paths {
            let full = root.join(&path);
            // A file that git tracks and the working tree has deleted is no longer part of the tree.
            if !full.is_file() {
                continue;
            }
            let content = if TEXT_ENDINGS.iter().any(|ending| path.ends_with(ending)) {
                match fs::read(&full) {
                    Ok(bytes) => String::from_utf8(bytes).map_or(Content::NotUtf8, Content::Text),
                    Err(e) => return Err(format!("cannot read {}: {e}", full.display())),
                }
            } else {
                Content::Unread
            };
            files.insert(path, content);
        }
        Ok(Self { files })
    }

    /// A tree made of `(path, text)`, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), Content::Text((*text).to_owned())))
            .collect();
        Self { files }
    }

    /// Every path, in order.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Path and text of every text file, in order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter_map(|(path, content)| match content {
                Content::Text(text) => Some((path.as_str(), text.as_str())),
                _ => None,
            })
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        match self.files.get(path)? {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Files that should be text and are not UTF-8.
    pub(crate) fn not_utf8(&self) -> impl Iterator<Item = &str> {
        self.files
            .iter()
            .filter(|(_, c)| **c == Content::NotUtf8)
            .map(|(path, _)| path.as_str())
    }

    /// Whether `path` is a file or a folder of the tree.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        if path.is_empty() || self.files.contains_key(path) {
            return true;
        }
        let folder = format!("{path}/");
        self.files
            .range(folder.clone()..)
            .next()
            .is_some_and(|(first, _)| first.starts_with(&folder))
    }
}

/// The folder, here or above, that has the law in it.
pub(crate) fn find_root() -> Result<PathBuf, String> {
    let here = env::current_dir().map_err(|e| format!("cannot tell the current directory: {e}"))?;
    here.ancestors()
        .find(|folder| folder.join(RULES_PATH).is_file())
        .map(Path::to_owned)
        .ok_or_else(|| {
            format!(
                "no {RULES_PATH} in {} or above it, run inside the repository",
                here.display()
            )
        })
}

/// What git tracks, and what it would track; `None` if git or its repository is absent.
fn git_files(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let list = String::from_utf8_lossy(&output.stdout);
    let paths: Vec<_> = list
        .split('\0')
        .filter(|p| !p.is_empty())
        .map(str::to_owned)
        .collect();
    // An unpacked tarball inside a repository that ignores it: git knows of nothing here.
    if paths.iter().any(|path| path == RULES_PATH) {
        Some(paths)
    } else {
        None
    }
}

/// Lists files below `root/folder` without git.
fn walk(root: &Path, folder: &str, paths: &mut Vec<String>) -> Result<(), String> {
    let full = root.join(folder);
    let entries =
        fs::read_dir(&full).map_err(|e| format!("cannot list {}: {e}", full.display()))?;
    for entry in entries {
        let entry = entry.map_err(|e| format!("cannot list {}: {e}", full.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() {
            name
        } else {
            format!("{folder}/{name}")
        };
        let kind = entry
            .file_type()
            .map_err(|e| format!("cannot tell what {path} is: {e}"))?;
        if kind.is_dir() {
            let left_out = NOT_WALKED
                .iter()
                .any(|skip| path == *skip || path.ends_with(&format!("/{skip}")));
            if !left_out {
                walk(root, &path, paths)?;
            }
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

/// Whether `path` matches `glob`: `*` is any run of characters but `/`, `**` any run of folders.
pub(crate) fn matches(glob: &str, path: &str) -> bool {
    fn folders(glob: &[&str], path: &[&str]) -> bool {
        match (glob.split_first(), path.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => {
                folders(rest, path) || path.split_first().is_some_and(|(_, p)| folders(glob, p))
            }
            (Some((g, glob)), Some((p, path))) => {
                segment(g.as_bytes(), p.as_bytes()) && folders(glob, path)
            }
            _ => false,
        }
    }
    fn segment(glob: &[u8], name: &[u8]) -> bool {
        match (glob.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                segment(rest, name) || name.split_first().is_some_and(|(_, n)| segment(glob, n))
            }
            (Some((g, glob)), Some((n, name))) => g == n && segment(glob, name),
            _ => false,
        }
    }
    folders(
        &glob.split('/').collect::<Vec<_>>(),
        &path.split('/').collect::<Vec<_>>(),
    )
}

/// Whether `path` matches one of `globs`.
pub(crate) fn matches_any(globs: &[String], path: &str) -> bool {
    globs.iter().any(|glob| matches(glob, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_in_its_folder_and_two_stars_do_not() {
        assert!(matches("*.md", "README.md"));
        assert!(!matches("*.md", "docs/memory.md"));
        assert!(matches("**/*.md", "README.md"));
        assert!(matches("**/*.md", "docs/memory.md"));
        assert!(matches("crates/*/src/**/*.rs", "crates/wasi/src/lib.rs"));
        assert!(matches("crates/*/src/**/*.rs", "crates/wasi/src/p1/fd.rs"));
        assert!(!matches("crates/*/src/**/*.rs", "crates/wasi/tests/fd.rs"));
        assert!(matches(
            "crates/runtime/src/arch/**",
            "crates/runtime/src/arch/mod.rs"
        ));
        assert!(!matches(
            "crates/runtime/src/arch/**",
            "crates/runtime/src/archive.rs"
        ));
        assert!(matches("a*c*e", "abcde"));
        assert!(!matches("a*c*e", "abcdef"));
    }

    #[test]
    fn files_and_folders_are_found_and_prefixes_of_names_are_not() {
        let tree = Tree::of(&[("ci/docs.sh", ""), ("ci-old/x.sh", ""), ("README.md", "")]);
        assert!(tree.has("ci/docs.sh"));
        assert!(tree.has("ci"));
        assert!(tree.has("ci/"));
        assert!(!tree.has("c"));
        assert!(!tree.has("ci/docs"));
        assert!(!tree.has("README"));
    }

    #[test]
    fn the_walk_without_git_finds_this_crate() {
        let root = find_root().unwrap();
        let mut paths = Vec::new();
        walk(&root.join("tools/house"), "", &mut paths).unwrap();
        assert!(paths.contains(&"src/tree.rs".to_owned()), "{paths:?}");
        assert!(paths.contains(&"rules.toml".to_owned()), "{paths:?}");
    }
}

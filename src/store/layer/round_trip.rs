//! Property: a layer made of the changes between two trees, applied over the first, is the second.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use proptest::prelude::*;

use super::diff::{Changed, walk};
use super::pack::Pack;
use super::view::View;
use crate::model::{Digest, LayerKind};
use crate::store::Store;

#[derive(Debug, Clone)]
enum Step {
    File(String, u8, u16),
    Dir(String),
    Link(String, u8),
    Hard(String, String),
    Sparse(String, u8),
    Mode(String, u16),
    Remove(String),
    Move(String, String),
}

fn path() -> impl Strategy<Value = String> {
    let long = "n".repeat(130);
    let name = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("c d".to_owned()),
        Just("é".to_owned()),
        Just(long)
    ];
    prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (path(), any::<u8>(), 0..2000_u16).prop_map(|(p, c, n)| Step::File(p, c, n)),
        3 => path().prop_map(Step::Dir),
        1 => (path(), any::<u8>()).prop_map(|(p, c)| Step::Link(p, c)),
        1 => (path(), path()).prop_map(|(p, q)| Step::Hard(p, q)),
        1 => (path(), any::<u8>()).prop_map(|(p, c)| Step::Sparse(p, c)),
        1 => (path(), 0..0o1000_u16).prop_map(|(p, m)| Step::Mode(p, m)),
        2 => path().prop_map(Step::Remove),
        1 => (path(), path()).prop_map(|(p, q)| Step::Move(p, q)),
    ]
}

/// Steps that do not fit what is there do nothing.
fn act(root: &Path, step: &Step) {
    let at = |path: &String| root.join(path);
    let _ = match step {
        Step::File(path, content, length) => fs::write(at(path), vec![*content; usize::from(*length)]),
        Step::Dir(path) => fs::create_dir(at(path)),
        Step::Link(path, target) => symlink(format!("/nowhere/{target}"), at(path)),
        Step::Hard(path, other) => fs::hard_link(at(other), at(path)),
        Step::Sparse(path, content) => fs::File::create(at(path)).and_then(|file| {
            use std::os::unix::fs::FileExt as _;
            file.set_len(3 << 20)?;
            file.write_at(&[*content; 5000], 1 << 20).map(drop)
        }),
        // Root of a test may be anyone: what it could not read again is left out.
        Step::Mode(path, mode) if fs::symlink_metadata(at(path)).is_ok_and(|m| !m.is_symlink()) => {
            fs::set_permissions(at(path), fs::Permissions::from_mode(u32::from(*mode) | 0o700))
        }
        Step::Mode(..) => Ok(()),
        Step::Remove(path) => fs::remove_dir_all(at(path)).or_else(|_| fs::remove_file(at(path))),
        Step::Move(from, to) => fs::rename(at(from), at(to)),
    };
}

/// Everything that an archive says of a tree; the times of directories count where `times`.
fn listing(dir: &View, at: &str, into: &mut Vec<String>) {
    for name in dir.names().unwrap() {
        let Some(node) = dir.find(&name).unwrap() else { continue };
        let facts = super::attributes::facts(&node.metadata);
        let path = format!("{at}/{}", name.display());
        let content = match facts.form {
            super::attributes::Form::File => Digest::of(&node.parent.read(&name).unwrap()).to_string(),
            super::attributes::Form::Link => {
                node.parent.read_link_contents(&name).unwrap().display().to_string()
            }
            _ => String::new(),
        };
        let size = if node.directory.is_some() { 0 } else { facts.size };
        into.push(format!(
            "{path} {:?} {:o} {}:{} {}.{} {size} {content}",
            facts.form, facts.mode, facts.uid, facts.gid, facts.seconds, facts.nanoseconds
        ));
        if let Some(below) = &node.directory {
            listing(below, &path, into);
        }
    }
}

fn list(paths: &[std::path::PathBuf]) -> Vec<String> {
    let mut lines = Vec::new();
    listing(&View::open(paths).unwrap(), "", &mut lines);
    lines
}

fn layer(store: &Store, archive: &[u8]) -> std::path::PathBuf {
    let digest = Digest::of(archive);
    if let Some(mut writer) = store.layers().begin(&digest).unwrap() {
        writer.apply(archive, LayerKind::Tar).unwrap();
        writer.commit().unwrap();
    }
    store.layers().path(&digest)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_diff_applied_is_the_other_tree(before in prop::collection::vec(step(), 0..40), after in prop::collection::vec(step(), 0..25)) {
        let work = tempfile::tempdir().unwrap();
        let store = Store::open(&work.path().join("store")).unwrap();
        let tree = work.path().join("tree");
        fs::create_dir(&tree).unwrap();
        for step in &before {
            act(&tree, step);
        }
        let open = || Dir::open_ambient_dir(&tree, ambient_authority()).unwrap();
        // The first layer is the difference to nothing.
        let empty = work.path().join("empty");
        fs::create_dir(&empty).unwrap();
        fs::set_permissions(&empty, fs::Permissions::from_mode(0o755)).unwrap();
        let archive = |lower: &[std::path::PathBuf]| {
            let mut bytes = Vec::new();
            let mut pack = Pack::new(&mut bytes);
            let view = View::open(lower).unwrap();
            walk(&Changed::Root(open()), &view, &|_, _| false, &mut pack).unwrap();
            pack.end().unwrap();
            bytes
        };
        let first = layer(&store, &archive(std::slice::from_ref(&empty)));
        prop_assert_eq!(list(std::slice::from_ref(&first)), list(std::slice::from_ref(&tree)));
        for step in &after {
            act(&tree, step);
        }
        let second = layer(&store, &archive(std::slice::from_ref(&first)));
        prop_assert_eq!(list(&[first, second]), list(std::slice::from_ref(&tree)));
    }
}

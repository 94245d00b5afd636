//! What is mounted into a container: the engine's name files and what the user asked for, the shallow first.

use runtime_linux::{Mount, Propagation};

use crate::executor;
use crate::model;

fn propagation(wish: model::Propagation) -> Propagation {
    match wish {
        model::Propagation::Rprivate => Propagation::Rprivate,
        model::Propagation::Private => Propagation::Private,
        model::Propagation::Rslave => Propagation::Rslave,
        model::Propagation::Slave => Propagation::Slave,
        model::Propagation::Rshared => Propagation::Rshared,
        model::Propagation::Shared => Propagation::Shared,
    }
}

/// One mount of the user's in the runtime's words. Memory is `noexec` unless told otherwise, as docker's is.
pub(in crate::executor) fn mount(wish: &executor::Mount) -> Mount {
    match wish {
        executor::Mount::Bind { source, subpath, target, read_only, recursive, propagation: travel } => {
            Mount::Bind {
                source: source.clone(),
                subpath: subpath.clone(),
                target: target.clone(),
                read_only: *read_only,
                recursive: *recursive,
                propagation: propagation(*travel),
            }
        }
        executor::Mount::Tmpfs { target, size, mode, read_only, options } => {
            let mut options = options.clone();
            if !options.iter().any(|option| option == "exec" || option == "noexec") {
                options.push("noexec".to_owned());
            }
            options.extend(mode.map(|mode| format!("mode={mode:o}")));
            options.extend(read_only.then(|| "ro".to_owned()));
            Mount::Tmpfs { target: target.clone(), options, size: *size }
        }
    }
}

fn target(mount: &Mount) -> &str {
    match mount {
        Mount::Bind { target, .. } | Mount::Tmpfs { target, .. } => target,
    }
}

/// How deep in the tree it lies.
pub(in crate::executor) fn depth(mount: &Mount) -> usize {
    target(mount).split('/').filter(|part| !part.is_empty()).count()
}

/// All mounts in the order in which they are made: what lies deeper comes later, and the user's own wins over ours.
pub(super) fn all(own: Vec<Mount>, wishes: &[executor::Mount]) -> Vec<Mount> {
    let mut all: Vec<Mount> = wishes.iter().map(mount).collect();
    for file in own {
        if all.iter().all(|other| target(other) != target(&file)) {
            all.push(file);
        }
    }
    all.sort_by_key(depth);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(target: &str) -> executor::Mount {
        executor::Mount::Bind {
            source: "/s".into(),
            subpath: String::new(),
            target: target.into(),
            read_only: false,
            recursive: true,
            propagation: model::Propagation::default(),
        }
    }

    #[test]
    fn shallow_mounts_come_first_and_the_users_file_wins() {
        let own = ["/etc/hosts", "/etc/hostname"].map(|path| mount(&bind(path))).into();
        let wishes = [bind("/etc/hosts"), bind("/a/b/c"), bind("/etc")];
        let order: Vec<_> = all(own, &wishes).iter().map(|mount| target(mount).to_owned()).collect();
        assert_eq!(order, ["/etc", "/etc/hosts", "/etc/hostname", "/a/b/c"]);
    }

    #[test]
    fn memory_has_dockers_defaults() {
        let wish = |options: &[&str]| executor::Mount::Tmpfs {
            target: "/t".into(),
            size: Some(1),
            mode: Some(0o1777),
            read_only: true,
            options: options.iter().map(|&option| option.to_owned()).collect(),
        };
        let Mount::Tmpfs { options, .. } = mount(&wish(&[])) else { panic!("memory") };
        assert_eq!(options, ["noexec", "mode=1777", "ro"]);
        let Mount::Tmpfs { options, .. } = mount(&wish(&["exec"])) else { panic!("memory") };
        assert_eq!(options, ["exec", "mode=1777", "ro"]);
    }
}

//! A directory that is removed may be named with a slash at its end, as everywhere else.
//!
//! wasmtime-wasi takes `dir/` for `dir/.`, which no system removes. POSIX, and the specification by it, mean the directory. What is no
//! directory, a symbolic link to one included, is refused as such with the slash or without. So the slashes are taken away before the
//! call, in all three versions; a path of slashes alone stays what it is.

use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime::{Caller, StoreContextMut};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p1::wasi_snapshot_preview1;
use wasmtime_wasi::p2::bindings::filesystem::types as two;
use wasmtime_wasi::p3::bindings::filesystem::types as three;
use wiggle::GuestMemory;

use crate::wasi::{P1, P2};

/// The function of a component's interface.
const REMOVE: &str = "[method]descriptor.remove-directory-at";
/// A path without the slashes at its end.
fn trimmed(path: &[u8]) -> usize {
    path.iter().rposition(|byte| *byte != b'/').map_or(path.len(), |last| last + 1)
}

fn trim(mut path: String) -> String {
    path.truncate(trimmed(path.as_bytes()));
    path
}

/// `path_remove_directory` of p1.
pub(super) async fn one(
    mut caller: Caller<'_, P1>,
    (fd, path, length): (i32, i32, i32),
) -> wasmtime::Result<i32> {
    let (data, state) = P1::parts(&mut caller)?;
    let start = path.cast_unsigned() as usize;
    let name = start.checked_add(length.cast_unsigned() as usize).and_then(|end| data.get(start..end));
    // What is no path at all, wasmtime-wasi refuses.
    let length = name.and_then(|name| i32::try_from(trimmed(name)).ok()).unwrap_or(length);
    let mut memory = GuestMemory::Unshared(data);
    wasi_snapshot_preview1::path_remove_directory(&mut state.wasi, &mut memory, fd, path, length).await
}

/// Puts the function in the place of wasmtime-wasi's own, of 0.2, in the interface of this name.
pub(super) fn two(linker: &mut Linker<P2>, interface: &str) -> wasmtime::Result<()> {
    type Arguments = (Resource<two::Descriptor>, String);
    linker.instance(interface)?.func_wrap_async(
        REMOVE,
        |mut store: StoreContextMut<'_, P2>, (fd, path): Arguments| {
            Box::new(async move {
                let mut files = store.data_mut().filesystem();
                let removed = two::HostDescriptor::remove_directory_at(&mut files, fd, trim(path)).await;
                Ok((removed.map_or_else(|error| error.downcast().map(Err), |()| Ok(Ok(())))?,))
            })
        },
    )
}

/// The same of 0.3.
pub(super) fn three(linker: &mut Linker<P2>, interface: &str) -> wasmtime::Result<()> {
    type Arguments = (Resource<three::Descriptor>, String);
    linker.instance(interface)?.func_wrap_concurrent(REMOVE, |store: &Accessor<P2>, (fd, path): Arguments| {
        Box::pin(async move {
            let files = store.with_getter::<WasiFilesystem>(P2::filesystem);
            let removed = <WasiFilesystem as three::HostDescriptorWithStore<P2>>::remove_directory_at(
                &files,
                fd,
                trim(path),
            )
            .await;
            Ok((removed.map_or_else(|error| error.downcast().map(Err), |()| Ok(Ok(())))?,))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_at_the_end_go_and_others_stay() {
        for (path, left) in [
            ("d", "d"),
            ("d/", "d"),
            ("d///", "d"),
            ("a/d/", "a/d"),
            ("/", "/"),
            ("//", "//"),
            ("", ""),
            ("./", "."),
            ("/d/", "/d"),
        ] {
            assert_eq!(trim(path.to_owned()), left, "{path}");
        }
    }
}

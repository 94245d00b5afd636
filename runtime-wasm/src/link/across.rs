//! A file does not move, and gets no second name, from one file system to another; who is told so copies it.
//!
//! wasmtime-wasi has no word for `EXDEV` and says `EIO`, at which nobody copies. A volume is a file system of its own, and so are, to an
//! overlay, directories that came with an image. Of these two functions any other error without a word is rare, and a copy meets it again:
//! so `EIO` is `EXDEV` here. A directory has no second name anywhere (`EPERM`), which Landlock hides behind `EXDEV` where the directory
//! is the root of a mount.

use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime::{Caller, StoreContextMut};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as one;
use wasmtime_wasi::p2::bindings::filesystem::types as two;
use wasmtime_wasi::p3::bindings::filesystem::types as three;
use wiggle::GuestMemory;

use super::{LinkError, PREVIEW1};
use crate::wasi::{P1, P2};

/// `errno::io` and `errno::xdev`.
const IO: i32 = 29;
const XDEV: i32 = 75;
/// Names in a component's interface.
const RENAME: &str = "[method]descriptor.rename-at";
const LINK: &str = "[method]descriptor.link-at";

fn errno(errno: i32) -> i32 {
    if errno == IO { XDEV } else { errno }
}

/// Puts the functions in the place of wasmtime-wasi's own, of p1.
pub(super) fn core(linker: &mut wasmtime::Linker<P1>) -> Result<(), LinkError> {
    type Rename = (i32, i32, i32, i32, i32, i32);
    type Link = (i32, i32, i32, i32, i32, i32, i32);
    linker
        .func_wrap_async(PREVIEW1, "path_rename", |mut caller: Caller<'_, P1>, args: Rename| {
            Box::new(async move {
                let (from, old, old_length, to, new, new_length) = args;
                let (data, state) = P1::parts(&mut caller)?;
                let (wasi, mut memory) = (&mut state.wasi, GuestMemory::Unshared(data));
                one::path_rename(wasi, &mut memory, from, old, old_length, to, new, new_length)
                    .await
                    .map(errno)
            })
        })
        .and_then(|linker| {
            linker.func_wrap_async(PREVIEW1, "path_link", |mut caller: Caller<'_, P1>, args: Link| {
                Box::new(async move {
                    let (from, flags, old, old_length, to, new, new_length) = args;
                    let (data, state) = P1::parts(&mut caller)?;
                    let (wasi, mut memory) = (&mut state.wasi, GuestMemory::Unshared(data));
                    one::path_link(wasi, &mut memory, from, flags, old, old_length, to, new, new_length)
                        .await
                        .map(errno)
                })
            })
        })
        .map(drop)
        .map_err(LinkError::Mismatch)
}

/// The same of 0.2, in the interface of this name.
pub(super) fn two(linker: &mut Linker<P2>, interface: &str) -> wasmtime::Result<()> {
    type Rename = (Resource<two::Descriptor>, String, Resource<two::Descriptor>, String);
    type Link = (Resource<two::Descriptor>, two::PathFlags, String, Resource<two::Descriptor>, String);
    let mut interface = linker.instance(interface)?;
    interface.func_wrap_async(
        RENAME,
        |mut store: StoreContextMut<'_, P2>, (from, old, to, new): Rename| {
            Box::new(async move {
                let mut files = store.data_mut().filesystem();
                let Err(error) = two::HostDescriptor::rename_at(&mut files, from, old, to, new).await else {
                    return Ok((Ok(()),));
                };
                Ok((Err(match error.downcast()? {
                    two::ErrorCode::Io => two::ErrorCode::CrossDevice,
                    code => code,
                }),))
            })
        },
    )?;
    interface.func_wrap_async(
        LINK,
        |mut store: StoreContextMut<'_, P2>, (from, flags, old, to, new): Link| {
            Box::new(async move {
                let mut files = store.data_mut().filesystem();
                let (again, name) = (Resource::new_borrow(from.rep()), old.clone());
                let outcome = two::HostDescriptor::link_at(&mut files, from, flags, old, to, new).await;
                let Err(error) = outcome else { return Ok((Ok(()),)) };
                let code = error.downcast()?;
                if !matches!(code, two::ErrorCode::Io) {
                    return Ok((Err(code),));
                }
                let stat = two::HostDescriptor::stat_at(&mut files, again, flags, name).await;
                let directory = stat.is_ok_and(|stat| matches!(stat.type_, two::DescriptorType::Directory));
                Ok((Err(if directory { two::ErrorCode::NotPermitted } else { two::ErrorCode::CrossDevice }),))
            })
        },
    )
}

/// The same of 0.3.
pub(super) fn three(linker: &mut Linker<P2>, interface: &str) -> wasmtime::Result<()> {
    type Rename = (Resource<three::Descriptor>, String, Resource<three::Descriptor>, String);
    type Link = (Resource<three::Descriptor>, three::PathFlags, String, Resource<three::Descriptor>, String);
    type Files = WasiFilesystem;
    let mut interface = linker.instance(interface)?;
    interface.func_wrap_concurrent(RENAME, |store: &Accessor<P2>, (from, old, to, new): Rename| {
        Box::pin(async move {
            let files = store.with_getter::<Files>(P2::filesystem);
            let moved =
                <Files as three::HostDescriptorWithStore<P2>>::rename_at(&files, from, old, to, new).await;
            let Err(error) = moved else { return Ok((Ok(()),)) };
            Ok((Err(match error.downcast()? {
                three::ErrorCode::Io => three::ErrorCode::CrossDevice,
                code => code,
            }),))
        })
    })?;
    interface.func_wrap_concurrent(LINK, |store: &Accessor<P2>, (from, flags, old, to, new): Link| {
        Box::pin(async move {
            let files = store.with_getter::<Files>(P2::filesystem);
            let (again, name) = (Resource::new_borrow(from.rep()), old.clone());
            let outcome =
                <Files as three::HostDescriptorWithStore<P2>>::link_at(&files, from, flags, old, to, new)
                    .await;
            let Err(error) = outcome else { return Ok((Ok(()),)) };
            let code = error.downcast()?;
            if !matches!(code, three::ErrorCode::Io) {
                return Ok((Err(code),));
            }
            let stat =
                <Files as three::HostDescriptorWithStore<P2>>::stat_at(&files, again, flags, name).await;
            let directory = stat.is_ok_and(|stat| matches!(stat.type_, three::DescriptorType::Directory));
            Ok((Err(if directory { three::ErrorCode::NotPermitted } else { three::ErrorCode::CrossDevice }),))
        })
    })
}

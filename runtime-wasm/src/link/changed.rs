//! When a file's status changed is its `ctime`.
//!
//! wasmtime-wasi says when a file was made instead, and with a static binary's C library (musl) only where it asked by a path: one file
//! had two answers. So the time is asked for once more, of the kernel, which keeps the path in its directory (`RESOLVE_BENEATH`). p1
//! keeps no directory that could be asked.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, Linker, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{clocks::wall_clock::Datetime, filesystem::types as two};
use wasmtime_wasi::p3::bindings::{clocks::system_clock::Instant, filesystem::types as three};

use crate::wasi::P2;

/// Names in a component's interface.
const STAT: &str = "[method]descriptor.stat";
const STAT_AT: &str = "[method]descriptor.stat-at";

/// Seconds and the rest in nanoseconds.
type Time = (i64, u32);

fn of(file: &File) -> Option<Time> {
    let metadata = file.metadata().ok()?;
    Some((metadata.ctime(), metadata.ctime_nsec().try_into().ok()?))
}

/// Of what a handle, or a path beneath one, names; `follow` where the path's last part may be a symbolic link that is followed.
fn changed(table: &ResourceTable, handle: u32, path: Option<(&str, bool)>) -> Option<Time> {
    let file = match table.get(&Resource::new_borrow(handle)).ok()? {
        Descriptor::File(file) => &file.file,
        Descriptor::Dir(dir) => &dir.dir,
    };
    let Some((path, follow)) = path else { return of(file) };
    let flags = OFlags::PATH | OFlags::CLOEXEC | if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    of(&openat2(file, path, flags, Mode::empty(), within).ok()?.into())
}

fn date((seconds, nanoseconds): Time) -> Option<Datetime> {
    Some(Datetime { seconds: seconds.try_into().ok()?, nanoseconds })
}

fn instant((seconds, nanoseconds): Time) -> Instant {
    Instant { seconds, nanoseconds }
}

/// Puts the functions in the place of wasmtime-wasi's own, of 0.2, in the interface of this name.
pub(super) fn two(linker: &mut Linker<P2>, interface: &str) -> wasmtime::Result<()> {
    type At = (Resource<two::Descriptor>, two::PathFlags, String);
    let mut interface = linker.instance(interface)?;
    interface.func_wrap_async(
        STAT,
        |mut store: StoreContextMut<'_, P2>, (fd,): (Resource<two::Descriptor>,)| {
            Box::new(async move {
                let (mut files, handle) = (store.data_mut().filesystem(), fd.rep());
                Ok((match two::HostDescriptor::stat(&mut files, fd).await {
                    Ok(mut stat) => {
                        stat.status_change_timestamp = changed(files.table, handle, None).and_then(date);
                        Ok(stat)
                    }
                    Err(error) => Err(error.downcast()?),
                },))
            })
        },
    )?;
    interface.func_wrap_async(STAT_AT, |mut store: StoreContextMut<'_, P2>, (fd, flags, path): At| {
        Box::new(async move {
            let (mut files, handle) = (store.data_mut().filesystem(), fd.rep());
            Ok((match two::HostDescriptor::stat_at(&mut files, fd, flags, path.clone()).await {
                Ok(mut stat) => {
                    let path = (path.as_str(), flags.contains(two::PathFlags::SYMLINK_FOLLOW));
                    let time = changed(files.table, handle, Some(path));
                    stat.status_change_timestamp = time.and_then(date);
                    Ok(stat)
                }
                Err(error) => Err(error.downcast()?),
            },))
        })
    })
}

/// The same of 0.3.
pub(super) fn three(linker: &mut Linker<P2>, interface: &str) -> wasmtime::Result<()> {
    type At = (Resource<three::Descriptor>, three::PathFlags, String);
    type Files = WasiFilesystem;
    let mut interface = linker.instance(interface)?;
    interface.func_wrap_concurrent(STAT, |store: &Accessor<P2>, (fd,): (Resource<three::Descriptor>,)| {
        Box::pin(async move {
            let (files, handle) = (store.with_getter::<Files>(P2::filesystem), fd.rep());
            Ok((match <Files as three::HostDescriptorWithStore<P2>>::stat(&files, fd).await {
                Ok(mut stat) => {
                    let time = files.with(|mut files| changed(files.get().table, handle, None));
                    stat.status_change_timestamp = time.map(instant);
                    Ok(stat)
                }
                Err(error) => Err(error.downcast()?),
            },))
        })
    })?;
    interface.func_wrap_concurrent(STAT_AT, |store: &Accessor<P2>, (fd, flags, path): At| {
        Box::pin(async move {
            let (files, handle) = (store.with_getter::<Files>(P2::filesystem), fd.rep());
            let stat =
                <Files as three::HostDescriptorWithStore<P2>>::stat_at(&files, fd, flags, path.clone()).await;
            Ok((match stat {
                Ok(mut stat) => {
                    let path = (path.as_str(), flags.contains(three::PathFlags::SYMLINK_FOLLOW));
                    let time = files.with(|mut files| changed(files.get().table, handle, Some(path)));
                    stat.status_change_timestamp = time.map(instant);
                    Ok(stat)
                }
                Err(error) => Err(error.downcast()?),
            },))
        })
    })
}

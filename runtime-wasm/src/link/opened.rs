//! Open files have a limit that is an error to who opens one more, as `RLIMIT_NOFILE` is.
//!
//! wasmtime-wasi bounds only a component's handles, with a trap, and a core module's not at all; then the first to run out of descriptors
//! would be the host's process. So opening is counted before it is done, and closing after. p1 has an errno for it (`mfile`). WASI 0.2 has
//! none among a file system's errors: `quota` comes closest; 0.3 says it in words.

use wasmtime::component::{Accessor, Linker, Resource, ResourceType};
use wasmtime::{Caller, StoreContextMut};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as one;
use wasmtime_wasi::p2::bindings::filesystem::types as two;
use wasmtime_wasi::p3::bindings::filesystem::types as three;
use wiggle::GuestMemory;

use super::{LinkError, PREVIEW1};
use crate::wasi::{P1, P2};

/// `errno::mfile`.
const MFILE: i32 = 33;
/// Names in a component's interface.
const OPEN: &str = "[method]descriptor.open-at";
const DESCRIPTOR: &str = "descriptor";

/// Arguments of `path_open`.
type Open = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

/// Puts the functions that open and close in the place of wasmtime-wasi's own, of p1.
pub(super) fn core(linker: &mut wasmtime::Linker<P1>) -> Result<(), LinkError> {
    linker
        .func_wrap_async(PREVIEW1, "path_open", |caller: Caller<'_, P1>, args: Open| {
            Box::new(open(caller, args))
        })
        .and_then(|linker| {
            linker.func_wrap_async(PREVIEW1, "fd_close", |caller: Caller<'_, P1>, (fd,): (i32,)| {
                Box::new(close(caller, fd))
            })
        })
        .and_then(|linker| {
            linker.func_wrap_async(PREVIEW1, "fd_renumber", |caller: Caller<'_, P1>, fds: (i32, i32)| {
                Box::new(renumber(caller, fds))
            })
        })
        .map(drop)
        .map_err(LinkError::Mismatch)
}

async fn open(mut caller: Caller<'_, P1>, args: Open) -> wasmtime::Result<i32> {
    let (fd, lookup, path, length, how, rights, inherited, flags, opened) = args;
    let (data, state) = P1::parts(&mut caller)?;
    if !state.meter.open() {
        return Ok(MFILE);
    }
    let mut memory = GuestMemory::Unshared(data);
    let wasi = &mut state.wasi;
    let errno =
        one::path_open(wasi, &mut memory, fd, lookup, path, length, how, rights, inherited, flags, opened)
            .await?;
    if errno != 0 {
        state.meter.close();
    }
    Ok(errno)
}

async fn close(mut caller: Caller<'_, P1>, fd: i32) -> wasmtime::Result<i32> {
    let (data, state) = P1::parts(&mut caller)?;
    let errno = one::fd_close(&mut state.wasi, &mut GuestMemory::Unshared(data), fd).await?;
    if errno == 0 {
        state.meter.close();
    }
    Ok(errno)
}

/// What had the number that something else gets is closed.
async fn renumber(mut caller: Caller<'_, P1>, (from, to): (i32, i32)) -> wasmtime::Result<i32> {
    let (data, state) = P1::parts(&mut caller)?;
    let errno = one::fd_renumber(&mut state.wasi, &mut GuestMemory::Unshared(data), from, to).await?;
    if errno == 0 && from != to {
        state.meter.close();
    }
    Ok(errno)
}

/// The same of 0.2, in the interface of this name.
pub(super) fn two(linker: &mut Linker<P2>, interface: &str) -> wasmtime::Result<()> {
    type Arguments =
        (Resource<two::Descriptor>, two::PathFlags, String, two::OpenFlags, two::DescriptorFlags);
    let mut interface = linker.instance(interface)?;
    interface.func_wrap_async(
        OPEN,
        |mut store: StoreContextMut<'_, P2>, (fd, paths, path, how, flags): Arguments| {
            Box::new(async move {
                let state = store.data_mut();
                if !state.meter.open() {
                    return Ok((Err(two::ErrorCode::Quota),));
                }
                let mut files = state.filesystem();
                let opened = two::HostDescriptor::open_at(&mut files, fd, paths, path, how, flags).await;
                match &opened {
                    Ok(handle) => state.meter.handle(handle.rep()),
                    Err(_) => state.meter.close(),
                }
                Ok((opened.map_or_else(|error| error.downcast().map(Err), |handle| Ok(Ok(handle)))?,))
            })
        },
    )?;
    interface.resource(DESCRIPTOR, ResourceType::host::<two::Descriptor>(), |mut store, handle| {
        store.data_mut().meter.dropped(handle);
        two::HostDescriptor::drop(&mut store.data_mut().filesystem(), Resource::new_own(handle))
    })
}

/// The same of 0.3.
pub(super) fn three(linker: &mut Linker<P2>, interface: &str) -> wasmtime::Result<()> {
    type Arguments =
        (Resource<three::Descriptor>, three::PathFlags, String, three::OpenFlags, three::DescriptorFlags);
    type Files = WasiFilesystem;
    let mut interface = linker.instance(interface)?;
    interface.func_wrap_concurrent(
        OPEN,
        |store: &Accessor<P2>, (fd, paths, path, how, flags): Arguments| {
            Box::pin(async move {
                if !store.with(|mut store| store.get().meter.open()) {
                    return Ok((Err(three::ErrorCode::Other(Some("too many open files".to_owned()))),));
                }
                let files = store.with_getter::<Files>(P2::filesystem);
                let opened = <Files as three::HostDescriptorWithStore<P2>>::open_at(
                    &files, fd, paths, path, how, flags,
                )
                .await;
                store.with(|mut store| match &opened {
                    Ok(handle) => store.get().meter.handle(handle.rep()),
                    Err(_) => store.get().meter.close(),
                });
                Ok((opened.map_or_else(|error| error.downcast().map(Err), |handle| Ok(Ok(handle)))?,))
            })
        },
    )?;
    interface.resource(DESCRIPTOR, ResourceType::host::<three::Descriptor>(), |mut store, handle| {
        store.data_mut().meter.dropped(handle);
        three::HostDescriptor::drop(&mut store.data_mut().filesystem(), Resource::new_own(handle))
    })
}

//! What host process and init say to each other over a sequenced-packet socket, with descriptors beside the bytes.
//!
//! Invariant: one packet is one message; big values (the plan) travel in a memory file. Every descriptor received is
//! close-on-exec. Not a pipe: it could not carry the terminal, and init's end closing at `execve` is the success.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};

use crate::exec::ExecPlan;
use crate::failure::InitFailure;
use crate::plan::Plan;
use crate::sys::Instruction;

/// From init to the host process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// pid 1 exists; its pidfd is beside.
    Born(u32),
    /// Everything is set up; the terminal, if any, is beside.
    Ready,
    /// It is over.
    Failed(InitFailure),
}

/// What init is to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// A container and its first process.
    Container(Box<Plan>),
    /// A further process; the pidfd of the container's first is behind the plan.
    Exec(Box<ExecPlan>),
}

/// The memory file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub(crate) job: Job,
    pub(crate) filter: Option<Vec<(u16, u8, u8, u32)>>,
}

pub(crate) fn pack(program: &[Instruction]) -> Vec<(u16, u8, u8, u32)> {
    program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
}

pub(crate) fn unpack(program: &[(u16, u8, u8, u32)]) -> Vec<Instruction> {
    program.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect()
}

pub(crate) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG);
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
    })
    .map(drop)
}

/// An empty message is the other end's closing.
pub(crate) fn receive(socket: impl AsFd) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    let mut bytes = vec![0; 64 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?
    .bytes;
    bytes.truncate(length);
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok((bytes, fds))
}

pub(crate) fn report(socket: impl AsFd, report: &Report, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(report).map_err(|_| Errno::INVAL)?;
    send(socket, &bytes, fds)
}

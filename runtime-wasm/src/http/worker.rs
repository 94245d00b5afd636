//! Instances that answer requests: how one is made, how much it may do, and when it goes.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use wasmtime::component::GuestTaskId;
use wasmtime::{Engine, Store, StoreContextMut};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};

use super::ServeLimits;
use super::access::Access;
use crate::control::{Account, Stop, Stopped, Ticks};
use crate::wasi::{self, GrantError, Grants, P2, Streams};

/// What instances are made from.
pub(super) struct Instances {
    pub(super) engine: Engine,
    pub(super) pre: ProxyPre<P2>,
    pub(super) grants: Grants,
    pub(super) streams: Streams,
    pub(super) account: Account,
    pub(super) stop: Arc<Stop>,
    pub(super) limits: ServeLimits,
    /// Requests of one instance, and of them at a time.
    pub(super) reuse: usize,
    pub(super) together: usize,
    pub(super) access: Access,
}

impl Instances {
    /// A store's state.
    pub(super) fn state(&self) -> Result<P2, GrantError> {
        wasi::p2(&self.grants, &self.streams, &self.account, false)
    }
}

/// No instance in time.
#[derive(Debug, thiserror::Error)]
#[error("the program did not begin within {} seconds", .0.as_secs())]
struct NotBegun(Duration);

impl HandlerState for Instances {
    type StoreData = P2;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<P2, Expiration, Worker>> {
        // A guest that loops lets others run, and is looked at, only while epochs pass.
        let ticks = self.account.ticks();
        let mut store = Store::new(&self.engine, self.state()?);
        self.account.govern(&mut store, &self.stop, true, |state| &mut state.meter)?;
        let limit = self.limits.answer_time;
        let proxy = tokio::time::timeout(limit, self.pre.instantiate_async(&mut store))
            .await
            .map_err(|_| NotBegun(limit))??;
        Ok(Instance {
            store,
            proxy,
            view: P2::http,
            expiration: Expiration {
                timer: Box::pin(tokio::time::sleep(limit)),
                answer: limit,
                idle: if self.reuse > 1 { self.limits.idle_time } else { Duration::ZERO },
            },
            state: Worker {
                answer: limit,
                reuse: self.reuse,
                together: self.together,
                access: self.access.clone(),
                account: self.account.clone(),
                _ticks: ticks,
            },
        })
    }
}

/// When an instance goes.
pub(super) struct Expiration {
    /// Never later than the end that is due: each request moves that on, and a timer that wakes too early is cheaper than one
    /// that is set anew with each.
    timer: Pin<Box<Sleep>>,
    answer: Duration,
    /// What answers once goes at once.
    idle: Duration,
}

impl WorkerExpiration for Expiration {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>, state: WorkerStatus, start: Instant) -> Poll<()> {
        let limit = match state {
            WorkerStatus::Idle => self.idle,
            WorkerStatus::Requests | WorkerStatus::PostReturn => self.answer,
        };
        let until = tokio::time::Instant::from_std(start + limit);
        if self.timer.deadline() > until {
            self.timer.as_mut().reset(until);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.timer.deadline() >= until {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

/// One instance's part of the rules.
pub(super) struct Worker {
    answer: Duration,
    reuse: usize,
    together: usize,
    access: Access,
    account: Account,
    _ticks: Ticks,
}

impl WorkerState for Worker {
    type StoreData = P2;
    type RequestData = ();

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.reuse {
            ShouldAccept::Never
        } else if concurrent >= self.together {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        store: StoreContextMut<'_, P2>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        self.account.refuel(store, |state| &mut state.meter);
        Box::pin(tokio::time::sleep(self.answer))
    }

    fn drop(&self, mut store: Store<P2>, result: Result<(), wasmtime::Error>) {
        self.account.burnt(&mut store, |state| &mut state.meter);
        drop(store);
        if let Err(error) = result
            && error.downcast_ref::<Stopped>().is_none()
        {
            self.access.error(&format!("error: {error:?}"));
        }
    }
}

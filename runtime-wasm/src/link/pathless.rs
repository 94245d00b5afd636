//! A request without a path and a query asks for `/`.
//!
//! `none` is, by its documentation, an empty path and an empty query, which HTTP sends as `/`. wasmtime-wasi-http sends it so in 0.2; in 0.3
//! it takes only the empty text for that, and refuses `none`.

use hyper::Method;
use hyper::http::uri::PathAndQuery;
use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::http::client::HostWithStore;
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _};

use crate::wasi::P2;

/// Puts `send` in the place of wasmtime-wasi-http's own, in the interface of this name.
pub(super) fn three(linker: &mut Linker<P2>, interface: &str) -> wasmtime::Result<()> {
    linker.instance(interface)?.func_wrap_concurrent(
        "send",
        |store: &Accessor<P2>, (request,): (Resource<Request>,)| {
            Box::pin(async move {
                let http = store.with_getter::<WasiHttp>(P2::http);
                http.with(|mut http| -> wasmtime::Result<()> {
                    let request = http.get().table.get_mut(&request)?;
                    if request.method != Method::CONNECT {
                        request.path_with_query.get_or_insert(PathAndQuery::from_static("/"));
                    }
                    Ok(())
                })?;
                let sent = <WasiHttp as HostWithStore<P2>>::send(&http, request).await;
                Ok((sent.map_or_else(|error| error.downcast().map(Err), |response| Ok(Ok(response)))?,))
            })
        },
    )
}

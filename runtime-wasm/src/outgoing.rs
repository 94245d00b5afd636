//! Requests that a guest sends by `wasi:http`: to where its grants say, and nowhere else.
//!
//! Connecting, TLS (with the roots of the Mozilla programme) and time-outs are wasmtime-wasi-http's own.

use std::future::Future;

use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::network::Network;

/// The hooks of one guest.
pub(crate) struct Requests {
    network: Network,
}

impl Requests {
    pub(crate) fn new(network: Network) -> Self {
        Self { network }
    }

    fn permits(&self, uri: &hyper::Uri) -> bool {
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        uri.host().is_some_and(|host| self.network.requests(host, port))
    }
}

type Sent = Result<(hyper::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Requests {
    fn send_request(
        &mut self,
        request: hyper::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let permitted = self.permits(request.uri());
        Box::new(async move {
            if !permitted {
                tracing::warn!(uri = %request.uri(), "a request to where the guest may not connect (`--allow-net`)");
                return Err(Error::HttpRequestDenied);
            }
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            let io: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(io);
            Ok((response.map(BodyExt::boxed_unsync), io))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_gives_the_port() {
        let requests =
            Requests::new(Network { connect: vec!["a.b:80".parse().unwrap()], ..Network::default() });
        for (uri, permitted) in [
            ("http://a.b/x", true),
            ("https://a.b/x", false),
            ("https://a.b:80/x", true),
            ("http://a.b:81/", false),
            ("http://user@a.b.c/", false),
            ("/x", false),
        ] {
            assert_eq!(requests.permits(&uri.parse().unwrap()), permitted, "{uri}");
        }
    }
}

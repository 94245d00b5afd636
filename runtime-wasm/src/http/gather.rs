//! Small answers in one piece: what a guest says at once is sent at once.
//!
//! A guest gives an answer's head first, then its body, and then says that there is no more, and hyper would send each as it comes:
//! two or three system calls and packets where one will do, which is a quarter of what a small answer costs. So a body that has just
//! begun gets a few turns to end, for as long as other work takes and no longer; nobody waits for a clock. One that did end is as long as it is,
//! and is sent with its length instead of in chunks. One that did not is sent as it comes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

/// Turns that a guest gets.
const TURNS: usize = 2;
/// Bytes that are held meanwhile; what is longer goes out as it comes.
const HELD: usize = 16 << 10;

/// A body of which a part, or everything, has come.
pub(super) struct Gathered {
    /// What has come.
    held: VecDeque<Result<Frame<Bytes>, Error>>,
    /// The rest; `None` when there is no more.
    rest: Option<WasiBody>,
}

impl Gathered {
    /// Takes what comes at once.
    pub(super) async fn new(mut body: WasiBody) -> Self {
        let (mut held, mut bytes, mut turns) = (VecDeque::new(), 0, 0);
        while bytes < HELD {
            if body.is_end_stream() {
                return Self { held, rest: None };
            }
            match poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await {
                Poll::Ready(None) => return Self { held, rest: None },
                Poll::Ready(Some(frame)) => {
                    let data = frame.as_ref().ok().and_then(Frame::data_ref).map(Bytes::len);
                    held.push_back(frame);
                    // Trailers and errors end it, and are the body's own to tell.
                    let Some(length) = data else { break };
                    bytes += length;
                }
                Poll::Pending if turns < TURNS => {
                    turns += 1;
                    tokio::task::yield_now().await;
                }
                Poll::Pending => break,
            }
        }
        Self { held, rest: Some(body) }
    }

    /// Bytes that are held.
    fn length(&self) -> u64 {
        let data = self.held.iter().filter_map(|frame| frame.as_ref().ok().and_then(Frame::data_ref));
        data.map(|data| data.len() as u64).sum()
    }
}

impl Body for Gathered {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(frame) = self.held.pop_front() {
            return Poll::Ready(Some(frame));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.length();
        let Some(rest) = &self.rest else { return SizeHint::with_exact(held) };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + held);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use hyper::header::HeaderMap;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::*;

    /// A body whose frames come by a channel, and which ends with it.
    struct Fed(UnboundedReceiver<Frame<Bytes>>);

    impl Body for Fed {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            self.0.poll_recv(cx).map(|frame| frame.map(Ok))
        }
    }

    fn fed() -> (UnboundedSender<Frame<Bytes>>, WasiBody) {
        let (sender, receiver) = unbounded_channel();
        (sender, Fed(receiver).boxed_unsync())
    }

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn what_ends_at_once_or_a_turn_later_is_whole() {
        let (sender, body) = fed();
        sender.send(data("he")).unwrap();
        tokio::spawn(async move {
            sender.send(data("llo")).unwrap();
        });
        let body = Gathered::new(body).await;
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
        let (sender, body) = fed();
        drop(sender);
        let body = Gathered::new(body).await;
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
    }

    #[tokio::test]
    async fn what_goes_on_is_sent_as_it_comes() {
        let (sender, body) = fed();
        sender.send(data("begun")).unwrap();
        let mut body = Gathered::new(body).await;
        assert_eq!(
            (body.size_hint().exact(), body.size_hint().lower(), body.is_end_stream()),
            (None, 5, false)
        );
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "begun");
        sender.send(data("later")).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "later");
        drop(sender);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn trailers_are_passed_on_and_a_long_body_is_not_held() {
        let (sender, body) = fed();
        sender.send(data("x")).unwrap();
        sender.send(Frame::trailers(HeaderMap::new())).unwrap();
        drop(sender);
        let body = Gathered::new(body).await;
        assert_eq!(body.size_hint().exact(), None);
        assert!(body.collect().await.unwrap().trailers().is_some());
        let (sender, body) = fed();
        for _ in 0..10 {
            sender.send(Frame::data(Bytes::from(vec![0; HELD / 2]))).unwrap();
        }
        let body = Gathered::new(body).await;
        assert_eq!(body.held.len(), 2);
        drop(sender);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), HELD * 5);
    }
}

//! Stands before everything that answers: asks the rule about browsers (`auth::web`) and tells what it refuses. The
//! answers that are not gRPC's it marks as nothing to frame, guess the type of, or run.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use tonic::{Code, Status};
use tower::Service;

use super::{
    dispatch::is_grpc,
    rest::{call::discard, error},
};
use crate::auth::web::{Facts, Given, Refusal, WebAccess};

/// What a browser may do with an answer, unless that says otherwise (`rest/pages`).
const PROTECTION: [(HeaderName, HeaderValue); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A service behind the rule about browsers. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Gate<S> {
    inner: S,
    access: Arc<WebAccess>,
    is_local: bool,
}

impl<S> Gate<S> {
    /// Before `inner`, for connections to an address that only this machine reaches, or others, too.
    pub(super) const fn new(inner: S, access: Arc<WebAccess>, is_local: bool) -> Self {
        Self {
            inner,
            access,
            is_local,
        }
    }
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_grpc = is_grpc(&request);
        let has_origin = request.headers().contains_key(header::ORIGIN);
        if !WebAccess::answers_always(is_grpc, has_origin)
            && let Err(refusal) = self.access.judge(&facts(&request, is_grpc, self.is_local))
        {
            return Box::pin(async move {
                discard(Body::new(request.into_body())).await;
                Ok(refused(&refusal, is_grpc))
            });
        }
        let answering = self.inner.call(request);
        Box::pin(async move {
            let answer = answering.await?;
            Ok(if is_grpc { answer } else { protected(answer) })
        })
    }
}

fn facts<B: HttpBody>(request: &Request<B>, is_grpc: bool, is_local: bool) -> Facts<'_> {
    Facts {
        is_grpc,
        is_local,
        scheme: request.uri().scheme_str().unwrap_or("http"),
        host: host(request),
        origin: given(request, &header::ORIGIN),
        fetch_site: given(request, &FETCH_SITE),
        content_type: given(request, &header::CONTENT_TYPE),
        has_body: !request.body().is_end_stream(),
    }
}

fn given<'r, B>(request: &'r Request<B>, name: &HeaderName) -> Given<&'r [u8]> {
    let mut values = request.headers().get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Given::None,
        (Some(value), None) => Given::One(value.as_bytes()),
        (Some(_), Some(_)) => Given::Many,
    }
}

/// The host to which a request was sent. `:authority` and a target that is a whole URL come before `Host`, and over
/// HTTP/2 both have to be the same (RFC 9112, section 3.2.2; RFC 9113, section 8.3.1). HTTP/1.0 may have none.
fn host<B>(request: &Request<B>) -> Option<Given<&str>> {
    let named = request.uri().authority().map(http::uri::Authority::as_str);
    let is_h2 = request.version() == Version::HTTP_2;
    let is_1_0 = request.version() == Version::HTTP_10;
    let given = match (named, given(request, &header::HOST)) {
        (_, Given::Many) => Given::Many,
        (Some(named), Given::None) if is_h2 => Given::One(named),
        (Some(named), Given::One(host)) => {
            let is_same = named.as_bytes().eq_ignore_ascii_case(host);
            if is_same || !is_h2 {
                Given::One(named)
            } else {
                Given::Many
            }
        }
        (_, Given::None) => Given::None,
        // What is no text is no host either.
        (None, Given::One(host)) => Given::One(str::from_utf8(host).unwrap_or_default()),
    };
    (given != Given::None || !is_1_0).then_some(given)
}

fn protected(mut answer: Response<Body>) -> Response<Body> {
    for (name, value) in PROTECTION {
        answer.headers_mut().entry(name).or_insert(value);
    }
    answer
}

fn refused(refusal: &Refusal, is_grpc: bool) -> Response<Body> {
    let (status, code, text) = match refusal {
        Refusal::BadHost => (
            StatusCode::BAD_REQUEST,
            Code::InvalidArgument,
            "A request names the one host that it is for.".to_owned(),
        ),
        Refusal::Host(host) => (
            StatusCode::FORBIDDEN,
            Code::PermissionDenied,
            format!(
                "This server is not known as {host:?}. If that is a name of it, start it with --allowed-host \
                 (PACKETBOAT_ALLOWED_HOST)."
            ),
        ),
        Refusal::Origin(origin) => (
            StatusCode::FORBIDDEN,
            Code::PermissionDenied,
            format!(
                "Pages of {origin:?} may not use this server. If they are to, start it with --allowed-origin \
                 (PACKETBOAT_ALLOWED_ORIGIN)."
            ),
        ),
        Refusal::ContentType => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::InvalidArgument,
            "A web page sends its requests with content-type: application/json.".to_owned(),
        ),
    };
    if is_grpc {
        let mut answer = Status::new(code, text).into_http();
        *answer.status_mut() = status;
        return answer;
    }
    protected(error::refused(status, code, &text))
}

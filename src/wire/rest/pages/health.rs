//! `/healthz`: whether this node and both of its backends answer (docs/operating.md, "What to watch").

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::{super::transcode::to_json, page};
use crate::{
    service::{BackendHealth, Health},
    wire::rest::error::JSON,
};

#[derive(Serialize)]
struct Shown<'a> {
    status: &'static str,
    node: Part<'a>,
    log: Part<'a>,
    store: Part<'a>,
}

#[derive(Serialize)]
struct Part<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

const fn word(good: bool) -> &'static str {
    if good { "ok" } else { "unavailable" }
}

impl<'a> From<&'a BackendHealth> for Part<'a> {
    fn from(health: &'a BackendHealth) -> Self {
        Self {
            backend: Some(health.backend),
            status: match (&health.failure, &health.shortage) {
                (None, Some(_)) => "full",
                (failure, _) => word(failure.is_none()),
            },
            message: health.failure.as_deref().or(health.shortage.as_deref()),
        }
    }
}

/// 200 if requests can be answered, else 503; what is missing is in the text. A full disk is no reason to send requests
/// elsewhere, and most are answered.
pub(super) fn answer(health: &Health) -> Response<Body> {
    let shown = Shown {
        status: word(health.is_good()),
        node: Part {
            backend: None,
            status: word(health.node.is_none()),
            message: health.node,
        },
        log: (&health.backends.log).into(),
        store: (&health.backends.store).into(),
    };
    let status = if health.is_good() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let text = to_json::write(&shown, &to_json::Style::default());
    let mut response = page(status, JSON, text.unwrap_or_default());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

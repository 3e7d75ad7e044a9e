//! Content that never changes, compressed once for all who accept that.

use std::{io::Write as _, sync::OnceLock};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::page;

/// The content, as it is and compressed.
#[derive(Debug)]
pub(super) struct Packed {
    content_type: HeaderValue,
    plain: Bytes,
    /// Made when a client first asks for it.
    gzip: OnceLock<Bytes>,
}

impl Packed {
    pub(super) const fn of_static(content_type: HeaderValue, content: &'static [u8]) -> Self {
        Self {
            content_type,
            plain: Bytes::from_static(content),
            gzip: OnceLock::new(),
        }
    }

    pub(super) fn new(content_type: HeaderValue, content: Vec<u8>) -> Self {
        Self {
            content_type,
            plain: content.into(),
            gzip: OnceLock::new(),
        }
    }

    /// The answer to a request with these headers.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response<axum::body::Body> {
        let gzip = accepts_gzip(headers)
            .then(|| self.gzip())
            .filter(|gzip| gzip.len() < self.plain.len());
        let content = gzip.unwrap_or(&self.plain).clone();
        let mut answer = page(StatusCode::OK, self.content_type.clone(), content);
        let of_the_answer = answer.headers_mut();
        of_the_answer.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if gzip.is_some() {
            of_the_answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer
    }

    fn gzip(&self) -> &Bytes {
        self.gzip.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            let packed = encoder
                .write_all(&self.plain)
                .and_then(|()| encoder.finish());
            packed.map_or_else(|_| self.plain.clone(), Bytes::from)
        })
    }
}

/// Whether a client takes gzip: it names that or anything, with a weight above 0. Its own entry comes first.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let entries = values.filter_map(|value| value.to_str().ok());
    let entries = entries.flat_map(|value| value.split(','));
    let mut any = false;
    for entry in entries {
        let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
        let weight = parameters.trim().strip_prefix("q=").map(str::trim);
        let is_taken =
            weight.is_none_or(|weight| weight.parse().is_ok_and(|weight: f32| weight > 0.0));
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => return is_taken,
            "*" => any = is_taken,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (accepted, taken) in [
            ("gzip", true),
            ("GZip;q=0.5, br", true),
            ("br, *", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("gzip;q=0, *", false),
            ("gzip; q=0.000", false),
            ("*;q=0", false),
            ("br", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            assert_eq!(accepts_gzip(&headers), taken, "{accepted}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}

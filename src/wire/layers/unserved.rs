//! Names the method in the answer to an RPC that is not served. tonic and its router leave that text empty.

use http::{HeaderName, HeaderValue, Response};
use tonic::{Code, Status};

use super::size::short;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Completes the answer to a gRPC request for `path` where it says UNIMPLEMENTED without a text.
pub fn name_method<B>(response: &mut Response<B>, path: &str) {
    let headers = response.headers_mut();
    // tonic does not know that gzip is taken care of before it.
    if headers.contains_key(ACCEPT_ENCODING) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity,gzip"));
    }
    let unserved = headers
        .get(STATUS)
        .is_some_and(|status| Code::from_bytes(status.as_bytes()) == Code::Unimplemented);
    if !unserved || headers.contains_key(MESSAGE) {
        return;
    }
    let method = path.strip_prefix('/').unwrap_or(path);
    let named = Status::unimplemented(short(format_args!("{method} is not implemented")));
    // A path that cannot be written as a header leaves the answer as it was.
    let _written = named.add_header(headers);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STATUS_TEXT_BYTES_MAX;

    fn text(path: &str) -> String {
        let mut response = Response::new(());
        response
            .headers_mut()
            .insert(STATUS, HeaderValue::from_static("12"));
        name_method(&mut response, path);
        let status = Status::from_header_map(response.headers());
        status.expect("a status").message().to_owned()
    }

    #[test]
    fn the_method_is_named_as_far_as_it_is_short() {
        assert_eq!(text("/a.B/C"), "a.B/C is not implemented");
        let named = text(&format!("/a.B/{}", "c".repeat(60_000)));
        assert_eq!(named.len(), STATUS_TEXT_BYTES_MAX);
        assert!(named.ends_with("..."));
    }
}

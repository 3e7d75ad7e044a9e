//! How many headers a request may have, and what they take in memory: the few bytes in which HTTP/2 repeats a header
//! become all of it again. And how the body of a request of HTTP/1.1 may be encoded.

use http::{HeaderMap, Request, header};
use tonic::Status;

use crate::limits::{HEADER_BYTES_MAX, HEADER_OVERHEAD_BYTES, HEADERS_MAX, OPEN_REQUEST_BYTES};

/// What HTTP/2 adds to a header's name and value (RFC 9113, section 6.5.2).
const LISTED_BYTES: usize = 32;

/// Bytes that `request` takes in memory without its body.
///
/// # Errors
/// INVALID_ARGUMENT: it has too many headers, or they have too many bytes. HTTP/1.1 refuses these before.
pub fn held_bytes<B>(request: &Request<B>) -> Result<usize, Status> {
    let count = request.headers().len();
    if count > HEADERS_MAX {
        return Err(Status::invalid_argument(format!(
            "The request has {count} headers, at most {HEADERS_MAX} are allowed."
        )));
    }
    let path = request.uri().path_and_query();
    let bytes = bytes(request.headers()) + path.map_or(0, |path| path.as_str().len());
    if bytes + count * LISTED_BYTES > HEADER_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "The headers of the request have more than {HEADER_BYTES_MAX} bytes, with {LISTED_BYTES} for each."
        )));
    }
    Ok(OPEN_REQUEST_BYTES + bytes + count * HEADER_OVERHEAD_BYTES)
}

/// Refuses a body that is encoded otherwise than in chunks: HTTP/1.1 would be read as if it were not, and something in
/// front of the server may have found another end of it (RFC 9112, section 6.1).
///
/// # Errors
/// UNIMPLEMENTED, behind which the connection has to end.
pub fn check_encoding<B>(request: &Request<B>) -> Result<(), Status> {
    let mut encodings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    let is_known = match encodings.next() {
        None => true,
        Some(encoding) => {
            encoding
                .as_bytes()
                .trim_ascii()
                .eq_ignore_ascii_case(b"chunked")
                && encodings.next().is_none()
        }
    };
    if is_known {
        return Ok(());
    }
    Err(Status::unimplemented(
        "The transfer-encoding of the request is not known; chunked is.",
    ))
}

fn bytes(headers: &HeaderMap) -> usize {
    let each = headers.iter();
    each.map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(count: usize, value_bytes: usize) -> Result<usize, Status> {
        let mut request = Request::new(());
        for number in 0..count {
            let name: http::HeaderName = format!("x-{number:03}").parse().expect("a name");
            let value = "v".repeat(value_bytes).parse().expect("a value");
            request.headers_mut().insert(name, value);
        }
        held_bytes(&request)
    }

    #[test]
    fn headers_are_counted_and_have_a_limit() {
        let none = held(0, 0).expect("within the limits");
        let hundred = held(100, 10).expect("within the limits");
        assert_eq!(hundred - none, 100 * (5 + 10 + HEADER_OVERHEAD_BYTES));
        let refused = held(101, 0).expect_err("too many");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        // With its name of 5 bytes, 32 beside it, and the path.
        held(1, HEADER_BYTES_MAX - 38).expect("within the limits");
        let refused = held(1, HEADER_BYTES_MAX - 37).expect_err("too large");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
}

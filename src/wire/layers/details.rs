//! Gives errors their details. Some clients take an error without for a success.

use http::{HeaderName, Response};
use prost::Message;
use tonic::{Code, Status};

use crate::proto::google::rpc;

const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Adds code and text as details to an answer that is an error without any.
pub fn complete<B>(response: &mut Response<B>) {
    let headers = response.headers_mut();
    if headers.contains_key(DETAILS) {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    if status.code() == Code::Ok {
        return;
    }
    let details = rpc::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    };
    let details = details.encode_to_vec().into();
    let status = Status::with_details(status.code(), status.message(), details);
    // What was a header before is one again.
    let _written = status.add_header(headers);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_repeats_its_code_and_its_text() {
        let mut response = Status::unavailable("no störe").into_http::<()>();
        complete(&mut response);
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "no störe")
        );
        let details = rpc::Status::decode(status.details()).expect("details");
        assert_eq!(
            (details.code, &*details.message),
            (i32::from(Code::Unavailable), "no störe")
        );
    }

    #[test]
    fn details_and_successes_stay_as_they_are() {
        let details = bytes::Bytes::from_static(b"details");
        let status = Status::with_details(Code::Aborted, "text", details);
        let mut response = status.into_http::<()>();
        let before = response.headers().clone();
        complete(&mut response);
        assert_eq!(*response.headers(), before);
        let mut response = Response::new(());
        complete(&mut response);
        assert!(response.headers().is_empty());
    }
}

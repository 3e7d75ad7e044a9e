//! gRPC status → the body and the code of a REST error, and only here (docs/behaviour.md, section 20.4).

use std::fmt::Display;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::Any;
use serde::Serialize;
use tonic::{Code, Status};

use super::transcode::{
    malformed::Malformed,
    selection::Selection,
    to_json::{self, Encoded, Style},
};
use crate::{proto::google::rpc, wire::layers::size::short};

/// Why a request was not carried out.
#[derive(Clone, Debug)]
pub struct Failure {
    code: Code,
    message: String,
    details: Vec<Any>,
}

impl Failure {
    /// The request says nothing that can be carried out.
    pub fn invalid(message: String) -> Self {
        Self {
            code: Code::InvalidArgument,
            message: short(message),
            details: Vec::new(),
        }
    }

    /// The answer cannot be shown.
    pub fn internal(error: &impl Display) -> Self {
        Self {
            code: Code::Internal,
            message: error.to_string(),
            details: Vec::new(),
        }
    }

    /// The answer to the client.
    pub fn into_response(self, pool: &DescriptorPool, style: &Style) -> Response<Body> {
        let style = Style {
            selection: Selection::default(),
            ..style.clone()
        };
        let body = self.body(pool, &style);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = http_status(self.code);
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        response
    }

    fn body(&self, pool: &DescriptorPool, style: &Style) -> Vec<u8> {
        let any = pool.get_message_by_name("google.protobuf.Any");
        let details: Vec<_> = self.details.iter().map(Message::encode_to_vec).collect();
        let shown = |details| {
            let error = Shown {
                code: http_status(self.code).as_u16(),
                message: &self.message,
                status: word(self.code),
                details,
            };
            to_json::write(&Envelope { error }, style)
        };
        let encoded = any.as_ref().map_or_else(Vec::new, |any| {
            let encoded = |bytes| Encoded::new(any, bytes, style);
            details.iter().map(|bytes| encoded(bytes)).collect()
        });
        // Details that are damaged are left out; the rest can always be written.
        shown(encoded)
            .or_else(|_| shown(Vec::new()))
            .unwrap_or_default()
    }
}

/// The answer to a request that does not come as far as a call. Its HTTP status says more than `code` would.
pub fn refused(status: StatusCode, code: Code, message: &str) -> Response<Body> {
    let error = Shown {
        code: status.as_u16(),
        message,
        status: word(code),
        details: Vec::new(),
    };
    let body = to_json::write(&Envelope { error }, &Style::default());
    let mut response = Response::new(Body::from(body.unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// What every answer in JSON says of itself.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");

#[derive(Serialize)]
struct Envelope<'a> {
    error: Shown<'a>,
}

#[derive(Serialize)]
struct Shown<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Encoded<'a>>,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = rpc::Status::decode(status.details()).map(|status| status.details);
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            details: details.unwrap_or_default(),
        }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        let message = malformed.to_string();
        let violation = rpc::bad_request::FieldViolation {
            field: malformed.path,
            description: message.clone(),
            ..Default::default()
        };
        let bad_request = rpc::BadRequest {
            field_violations: vec![violation],
        };
        let detail = Any {
            type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(),
            value: bad_request.encode_to_vec(),
        };
        Self {
            code: Code::InvalidArgument,
            message,
            details: vec![detail],
        }
    }
}

/// A status's name as JSON writes it.
const fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The HTTP status that stands for a code.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => StatusCode::from_u16(499).expect("a status has three digits"),
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

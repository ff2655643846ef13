//! The call `grpc.health.v1.Health/Check`: its frames, its messages, and the status it ends with.

use std::time::Duration;

use ::http::header::{CONTENT_TYPE, TE};
use ::http::{HeaderMap, HeaderValue, Method, Request, Uri, response, uri};
use prost::Message;

use crate::model::{Answer, Fault, Unknown};
use crate::net::cut;

const PATH: &str = "/grpc.health.v1.Health/Check";
/// The most of an answer that is read: a status has two bytes.
pub(super) const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Length of the head of a message on the wire: a flag, and the message's length.
const PREFIX: usize = 5;
/// The longest text of a status that a fault quotes, in bytes.
const MAX_MESSAGE_BYTES: usize = 300;
/// The largest number that `grpc-timeout` can carry.
const MAX_TIMEOUT_MILLIS: u128 = 99_999_999;

/// gRPC's status codes, as far as they are made here.
pub(super) mod code {
    pub(crate) const OK: i32 = 0;
    pub(crate) const UNKNOWN: i32 = 2;
    pub(crate) const DEADLINE_EXCEEDED: i32 = 4;
    pub(crate) const PERMISSION_DENIED: i32 = 7;
    pub(crate) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(crate) const UNIMPLEMENTED: i32 = 12;
    pub(crate) const INTERNAL: i32 = 13;
    pub(crate) const UNAVAILABLE: i32 = 14;
    pub(crate) const UNAUTHENTICATED: i32 = 16;
}

/// A call that yielded no message: its code, and what is wrong.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) code: i32,
    pub(super) answer: Answer,
}

impl From<Answer> for Failed {
    fn from(answer: Answer) -> Self {
        let code = match answer.fault() {
            Some(
                Fault::NoResponse { .. }
                | Fault::BodyTimeout { .. }
                | Fault::ConnectTimeout { .. }
                | Fault::TlsTimeout { .. },
            ) => code::DEADLINE_EXCEEDED,
            Some(Fault::BodyTooLarge { .. }) => code::RESOURCE_EXHAUSTED,
            _ => code::UNAVAILABLE,
        };
        Self { code, answer }
    }
}

impl Failed {
    fn protocol(code: i32, detail: impl Into<Box<str>>) -> Self {
        Self { code, answer: Fault::ProtocolError { detail: detail.into() }.into() }
    }
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// What the health service says of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServingStatus {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
    /// A number that version 1 of the service does not have.
    Foreign,
}

impl ServingStatus {
    pub(super) const KNOWN: [Self; 4] =
        [Self::Unknown, Self::Serving, Self::NotServing, Self::ServiceUnknown];

    const fn of(number: i32) -> Self {
        match number {
            0 => Self::Unknown,
            1 => Self::Serving,
            2 => Self::NotServing,
            3 => Self::ServiceUnknown,
            _ => Self::Foreign,
        }
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
            Self::Foreign => "in a state that version 1 does not have",
        }
    }
}

/// The question as it goes over the wire.
pub(super) fn encode(service: &str) -> Vec<u8> {
    let message = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = Vec::with_capacity(PREFIX + message.len());
    framed.push(0);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

/// The head of the call, without its body.
pub(super) fn request(
    tls: bool,
    authority: &str,
    mut headers: HeaderMap,
    budget: Duration,
) -> Result<Request<()>, Answer> {
    let unsendable =
        || Answer::from(Unknown::Setup(format!("{authority:?} is no authority").into()));
    let mut parts = uri::Parts::default();
    parts.scheme = Some(if tls { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
    parts.authority = Some(authority.parse().map_err(|_| unsendable())?);
    parts.path_and_query = Some(uri::PathAndQuery::from_static(PATH));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let millis = budget.as_millis().clamp(1, MAX_TIMEOUT_MILLIS);
    if let Ok(timeout) = HeaderValue::try_from(format!("{millis}m")) {
        headers.insert("grpc-timeout", timeout);
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| unsendable())?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Whether what answers speaks gRPC. The rules are those of gRPC's mapping of HTTP statuses.
pub(super) fn head(head: &response::Parts) -> Result<(), Failed> {
    if head.headers.contains_key("grpc-status") {
        return Ok(());
    }
    let http = head.status.as_u16();
    if http != 200 {
        let code = match http {
            400 => code::INTERNAL,
            401 => code::UNAUTHENTICATED,
            403 => code::PERMISSION_DENIED,
            404 => code::UNIMPLEMENTED,
            429 | 502..=504 => code::UNAVAILABLE,
            _ => code::UNKNOWN,
        };
        let answer = match http {
            401 | 403 | 407 => Fault::AuthRefused { code: http },
            _ => Fault::HttpStatus { code: http },
        };
        return Err(Failed { code, answer: answer.into() });
    }
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if kind.starts_with(b"application/grpc") {
        return Ok(());
    }
    let kind = String::from_utf8_lossy(kind);
    let detail = format!("content type {:?} is not gRPC's", cut(&kind, MAX_MESSAGE_BYTES));
    Err(Failed::protocol(code::UNKNOWN, detail))
}

/// The status that a call ended with.
pub(super) fn status(trailers: &HeaderMap) -> Result<(), Failed> {
    let Some(status) = trailers.get("grpc-status") else {
        return Err(Failed::protocol(code::INTERNAL, "the call ended without a gRPC status"));
    };
    let number = status.to_str().ok().and_then(|text| text.parse::<i32>().ok());
    let Some(number) = number else {
        return Err(Failed::protocol(code::UNKNOWN, "the gRPC status is no number"));
    };
    if number == code::OK {
        return Ok(());
    }
    let text = trailers.get("grpc-message").map(HeaderValue::as_bytes).unwrap_or_default();
    let text = percent_decode(text);
    let message = cut(&text, MAX_MESSAGE_BYTES).into();
    Err(Failed { code: number, answer: Fault::GrpcStatus { code: number, message }.into() })
}

/// The one message of a call that ended well.
pub(super) fn decode(body: &[u8]) -> Result<ServingStatus, Failed> {
    let wrong = |detail: &str| Err(Failed::protocol(code::INTERNAL, detail));
    let Some((prefix, message)) = body.split_first_chunk::<PREFIX>() else {
        return wrong("the call ended well and without a message");
    };
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return wrong("the message is compressed, which nobody asked for");
    }
    if usize::try_from(u32::from_be_bytes(length)).ok() != Some(message.len()) {
        return wrong("the message's length is not the one declared");
    }
    match HealthCheckResponse::decode(message) {
        Ok(response) => Ok(ServingStatus::of(response.status)),
        Err(_) => wrong("the message is no answer of the health service"),
    }
}

fn percent_decode(text: &[u8]) -> String {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let decoded = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed() {
        assert_eq!(encode(""), [0, 0, 0, 0, 0]);
        assert_eq!(encode("ab"), *b"\0\0\0\0\x04\x0a\x02ab");
        assert_eq!(decode(b"\0\0\0\0\x02\x08\x01").unwrap(), ServingStatus::Serving);
        assert_eq!(decode(b"\0\0\0\0\0").unwrap(), ServingStatus::Unknown);
        assert_eq!(decode(b"\0\0\0\0\x02\x08\x09").unwrap(), ServingStatus::Foreign);
    }

    #[test]
    fn what_is_no_message_is_told() {
        let bodies: [&[u8]; 6] = [
            b"",
            b"\0\0\0",
            b"\x01\0\0\0\0",
            b"\0\0\0\0\x03\x08\x01",
            b"\0\0\0\0\x01\x08\x01",
            b"\0\0\0\0\x02\xff\xff",
        ];
        for body in bodies {
            let failed = decode(body).unwrap_err();
            assert_eq!((failed.code, failed.answer.reason()), (13, Some("protocol_error")));
        }
    }

    #[test]
    fn a_status_carries_its_text() {
        let mut trailers = HeaderMap::new();
        assert_eq!(status(&trailers).unwrap_err().code, code::INTERNAL);
        trailers.insert("grpc-status", HeaderValue::from_static("5"));
        trailers.insert("grpc-message", HeaderValue::from_static("no %C3%A9 100% sure%"));
        let failed = status(&trailers).unwrap_err();
        assert_eq!(failed.code, 5);
        assert_eq!(failed.answer.to_string(), "gRPC status 5: no é 100% sure%");
        trailers.insert("grpc-status", HeaderValue::from_static("x"));
        assert_eq!(status(&trailers).unwrap_err().code, code::UNKNOWN);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        assert!(status(&trailers).is_ok());
    }

    #[test]
    fn http_statuses_have_codes() {
        for (http, wanted) in [(401, 16), (403, 7), (404, 12), (503, 14), (500, 2)] {
            let (parts, ()) =
                ::http::Response::builder().status(http).body(()).unwrap().into_parts();
            assert_eq!(head(&parts).unwrap_err().code, wanted, "{http}");
        }
    }
}

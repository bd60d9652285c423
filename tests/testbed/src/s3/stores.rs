//! Kinds of stores: the gateway, made to answer as the documentation of a store, or its users' reports, say that it does.
//!
//! A request is forwarded unchanged, since the signature covers its headers: so a header is refused, but never ignored.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Answers 400 to a checksum's headers on any request (Backblaze's page on its S3-compatible API names them as
    /// unsupported) and 501 to a PUT with a condition; keeps no SHA-256.
    BackblazeB2,
    /// Answers 501 to a PUT with a SHA-256 (thanos-io/objstore#84; its page names algorithms that it does not have); heeds
    /// conditions; gives no SHA-256 back.
    CloudflareR2,
    /// Answers 403 `SignatureDoesNotMatch` to a PUT with a checksum's header (aws/aws-sdk-java-v2#5987), and to a HEAD, without
    /// a body; keeps no SHA-256.
    GoogleCloudStorage,
    /// Heeds conditions; takes a SHA-256, and gives none back before its releases of 2024 (ceph/ceph#55076). Its errors have an
    /// empty message, as RGW 16.2.15 has it.
    Ceph,
    /// As AWS: heeds both, and gives the SHA-256 back where a HEAD asks for it.
    MinIo,
    /// Answers 501 to a PUT with a condition, and heeds checksums, as Alibaba's and others do.
    Unconditional,
    /// Answers the same 400, without naming a header, to whatever carries a checksum's header or a condition.
    Bare,
}

/// How a store refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

impl Store {
    /// All that are documented, and the two that are only odd.
    pub const ALL: [Self; 7] = [
        Self::BackblazeB2,
        Self::CloudflareR2,
        Self::GoogleCloudStorage,
        Self::Ceph,
        Self::MinIo,
        Self::Unconditional,
        Self::Bare,
    ];

    /// Whether it refuses a request for a header that it carries.
    pub(super) fn refuses(self, method: &Method, headers: &HeaderMap) -> Option<Refusal> {
        let checksum = headers.keys().any(is_checksum);
        let sha256 = headers.contains_key("x-amz-checksum-sha256");
        let condition = *method == Method::PUT && headers.contains_key("if-none-match");
        let refusal = |status, code, message| Some(Refusal { status, code, message });
        match self {
            Self::BackblazeB2 if checksum => refusal(
                StatusCode::BAD_REQUEST,
                "InvalidArgument",
                "Unsupported header 'x-amz-checksum-sha256' received for this API call.",
            ),
            Self::BackblazeB2 | Self::Unconditional if condition => refusal(
                StatusCode::NOT_IMPLEMENTED,
                "NotImplemented",
                "A header you provided implies functionality that is not implemented",
            ),
            Self::CloudflareR2 if sha256 => refusal(
                StatusCode::NOT_IMPLEMENTED,
                "NotImplemented",
                "Header 'x-amz-checksum-algorithm' with value 'SHA256' not implemented",
            ),
            Self::GoogleCloudStorage if checksum => refusal(
                StatusCode::FORBIDDEN,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
            ),
            Self::Bare if checksum || condition => {
                refusal(StatusCode::BAD_REQUEST, "InvalidRequest", "Bad Request")
            }
            _ => None,
        }
    }

    /// Whether the messages of its errors are empty.
    pub(super) fn has_empty_messages(self) -> bool {
        self == Self::Ceph
    }

    /// What an answer of the gateway looks like, had the store given it.
    pub(super) fn answers(self, headers: &mut HeaderMap<HeaderValue>) {
        if matches!(self, Self::MinIo | Self::Unconditional) {
            return;
        }
        for name in headers.keys().filter(|name| is_checksum(name)).cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
    }
}

fn is_checksum(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-amz-checksum-")
}

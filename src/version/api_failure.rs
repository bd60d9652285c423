//! Failures of requests to the Kubernetes API. Pure.

use crate::controller::client;
use crate::controller::failure::{Failure, Reason};

/// The failure of a request about a Version.
pub(crate) fn api_failure(error: &kube::Error) -> Failure {
    let message = match error {
        kube::Error::Api(status) if client::is_refusal(status) => {
            let message = format!(
                "The Kubernetes API rejects a request about this Version: {} (status {}). Check the operator's RBAC, the \
                 admission webhooks, and that the CRDs are from the operator's release.",
                status.message, status.code
            );
            return Failure::new(Reason::VersionRefused, message);
        }
        kube::Error::Api(status) => {
            format!("The Kubernetes API failed: {} (status {}).", status.message, status.code)
        }
        error => format!("The Kubernetes API could not be reached: {}.", client::explain(error)),
    };
    Failure::new(Reason::ApiUnavailable, message)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answered(code: u16, message: &str) -> Failure {
        api_failure(&kube::Error::Api(Box::new(Status {
            code,
            message: message.into(),
            ..Status::default()
        })))
    }

    #[test]
    fn a_refusal_of_the_api_server_is_told_from_an_outage_and_both_in_its_words() {
        for code in [401, 403, 413, 422, 500, 504] {
            let failure = answered(code, "not on a Friday");
            assert_eq!(failure.reason, Reason::VersionRefused, "{code}");
            assert!(failure.message.contains("not on a Friday") && failure.message.contains("RBAC"));
        }
        for code in [429, 503] {
            let failure = answered(code, "too busy");
            assert_eq!((failure.reason, failure.is_transient()), (Reason::ApiUnavailable, true), "{code}");
            assert!(failure.message.contains("too busy"));
        }
        let unreached = api_failure(&kube::Error::LinesCodecMaxLineLengthExceeded);
        assert_eq!(unreached.reason, Reason::ApiUnavailable);
    }
}

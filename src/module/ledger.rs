//! What a reconcile records in the status before it acts: content digests and the open request. Pure.
//!
//! The plan is made from the ledger and not from the status that was read, because the ledger is written first: a digest is
//! recorded before its Version is deleted, and a request before it is passed on.

use std::collections::{BTreeMap, BTreeSet};

use super::digests;
use super::rejected_requests::RejectedRequests;
use super::requests;
use super::select::Selection;
use super::view::ModuleView;
use crate::api::state::VersionState;
use crate::domain::Release;

/// The next values of the status fields that decisions depend on.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// `status.published`.
    pub published: Option<BTreeMap<String, String>>,
    /// `status.forceToken`.
    pub force_token: Option<String>,
    /// `status.lastHandledRequest`.
    pub last_handled_request: Option<String>,
    /// Whether the API server cannot store a larger status, so that no further digest is recorded.
    pub is_too_large: bool,
    /// Names of the wanted versions that are not created, because their digests could not be recorded.
    pub unrecorded: BTreeSet<String>,
}

impl Ledger {
    /// `token`: a new token ([`crate::api::requests::ForceToken::create`]) where a request may be opened now.
    pub fn next(
        module: &ModuleView,
        (selection, children): (&Selection, &[&VersionState]),
        refused: &RejectedRequests,
        is_too_large: bool,
        token: Option<String>,
    ) -> Self {
        let status = &module.status;
        // A spec that is unusable may not even be readable: nothing is unpinned until it is corrected.
        let published = if module.problem.is_none() || module.is_immutable() {
            digests::published(module, children, is_too_large)
        } else {
            status.published.clone()
        };
        let unrecorded = digests::unrecorded(module, (selection, children), published.as_ref(), is_too_large);
        let answers_nothing = module.has_foreign_status() && requests::open_token(module).is_none();
        let force_token = status.force_token.clone().filter(|_| !answers_nothing);
        let last_handled_request = status.last_handled_request.clone();
        let mut ledger = Self { published, force_token, last_handled_request, is_too_large, unrecorded };
        if let Some(token) = token.filter(|_| requests::unopened(module).is_some()) {
            ledger.force_token = Some(token);
            // Recorded when the request is opened, so that a later value is another request.
            ledger.last_handled_request =
                module.requested_at().map(str::to_owned).or(ledger.last_handled_request);
        } else {
            ledger.close_request(module, (selection, children), refused);
        }
        ledger
    }

    /// Closes the open request if every Version has handled it, or cannot.
    pub fn close_request(
        &mut self,
        module: &ModuleView,
        (selection, children): (&Selection, &[&VersionState]),
        refused: &RejectedRequests,
    ) {
        let Some(open) = self.open_request() else { return };
        if !module.spec.suspend
            && module.is_readable
            && requests::is_handled(module, open, (selection, children), &self.unrecorded, refused)
        {
            self.force_token = Some(requests::closed(module, open));
        }
    }

    /// The token of the open request.
    pub fn open_request(&self) -> Option<&str> {
        requests::open(self.force_token.as_deref())
    }

    /// The content digest that a version must have.
    pub fn expected_digest(&self, release: &Release) -> Option<&str> {
        self.published.as_ref()?.get(&release.to_string()).map(String::as_str)
    }
}

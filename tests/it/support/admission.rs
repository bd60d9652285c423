//! Requests that the API server refuses, as a policy of a cluster would.

use serde_json::{Value, json};

use super::World;

impl World {
    /// A policy, with its binding, by which the API server refuses in this namespace each `operation` on `resource` for which
    /// the CEL `expression` is false, with this message. It takes effect a moment after it was applied.
    pub(crate) fn refusal(&self, operation: &str, resource: &str, expression: &str, message: &str) -> Value {
        let name = self.refusal_name();
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{"apiGroups": ["opendepot.defdev.io"], "apiVersions": ["*"],
                    "operations": [operation], "resources": [resource]}]},
                "validations": [{"expression": expression, "message": message}],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector":
                {"matchLabels": {"kubernetes.io/metadata.name": self.name}}}},
        });
        json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]})
    }
    /// Ends the refusal, a moment later.
    pub(crate) fn lift_refusal(&self) {
        self.kubectl(&["delete", "validatingadmissionpolicybinding", &self.refusal_name()]);
    }

    fn refusal_name(&self) -> String {
        format!("refuse-{}", self.name)
    }
}

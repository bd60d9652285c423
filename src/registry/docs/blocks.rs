//! What the blocks of a file declare, in either syntax.

use super::model::{Folder, Input, ModuleCall, Output, Provider, Resource, ResourceMode};
use super::text::is_identifier;

/// The body of a block.
pub(super) trait Body {
    /// The text of an attribute.
    fn text(&self, key: &str) -> Option<String>;
    /// A flag, which may be the text `true` or `false`.
    fn flag(&self, key: &str) -> Option<bool>;
    /// The type of a variable.
    fn type_(&self) -> Option<String>;
    /// The default of a variable.
    fn default(&self) -> Option<String>;
    /// The provider configuration that a resource names, such as `aws.east`.
    fn provider(&self) -> Option<String>;
    /// What the blocks `required_providers` contain.
    fn required_providers(&self) -> Vec<Provider>;
}

impl Folder {
    /// Adds what a block declares.
    pub(super) fn add(&mut self, block: &str, labels: &[&str], body: &impl Body) {
        // Terraform refuses other names, and they would break the code that callers copy.
        if !labels.iter().all(|label| is_identifier(label)) {
            return;
        }
        match (block, labels) {
            ("variable", [name]) => self.inputs.push(Input {
                name: (*name).into(),
                type_: body.type_(),
                default: body.default(),
                description: body.text("description"),
                sensitive: body.flag("sensitive"),
                nullable: body.flag("nullable"),
                ephemeral: body.flag("ephemeral"),
                deprecated: body.text("deprecated"),
            }),
            ("output", [name]) => self.outputs.push(Output {
                name: (*name).into(),
                description: body.text("description"),
                sensitive: body.flag("sensitive"),
                ephemeral: body.flag("ephemeral"),
                deprecated: body.text("deprecated"),
            }),
            ("module", [name]) => {
                let (source, version) = (body.text("source"), body.text("version"));
                self.calls.push(ModuleCall { name: (*name).into(), source, version });
            }
            ("resource", [kind, name]) => self.add_resource(ResourceMode::Managed, kind, name, body),
            ("data", [kind, name]) => self.add_resource(ResourceMode::Data, kind, name, body),
            ("ephemeral", [kind, name]) => self.add_resource(ResourceMode::Ephemeral, kind, name, body),
            // The version is deprecated here, and still required.
            ("provider", [name]) => {
                let version = body.text("version");
                self.providers.push(Provider { version, is_block: true, ..Provider::named(name) });
            }
            ("terraform", []) => {
                self.required_version.extend(body.text("required_version"));
                self.providers.extend(body.required_providers());
            }
            _ => {}
        }
    }

    fn add_resource(&mut self, mode: ResourceMode, kind: &str, name: &str, body: &impl Body) {
        self.resources.push(Resource { mode, type_: kind.into(), name: name.into() });
        // Without the attribute, the type begins with the provider's name.
        let written = body.provider();
        let provider = written.as_deref().and_then(|text| text.split('.').next());
        let provider = provider.or_else(|| kind.split('_').next());
        self.providers.extend(provider.filter(|name| is_identifier(name)).map(Provider::named));
    }
}

//! Reads a file in HCL's native syntax (`.tf`, `.tofu`).

use hcl_edit::Span as _;
use hcl_edit::expr::{Array, Expression, Object, UnaryOperator};
use hcl_edit::parser::{Error, parse_body};
use hcl_edit::structure::{BlockLabel, Body};
use hcl_edit::template::{Element, Template};

use super::blocks;
use super::model::{Folder, Provider};
use super::pieces::{Piece, pieces};
use super::repair::repaired;
use super::text::{attribute, cut, dedented, is_configuration, unindented};
use crate::domain::text::plural;

/// Adds what one file declares. Returns what of it could not be read.
pub(super) fn read(source: &str, folder: &mut Folder) -> Option<String> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    if add_all(source, source, folder).is_ok() {
        return None;
    }
    let pieces = pieces(source);
    let mut failed = pieces.iter().filter_map(|piece| {
        let error = add_all(piece.text, piece.text, folder).err()?;
        if !piece.is_shown() {
            return None;
        }
        add_repaired(piece.text, folder);
        Some(place(piece, &error))
    });
    let first = failed.next()?;
    Some(match failed.count() {
        0 => first,
        more => format!("{first}; {} could not be read either", plural(more, "more block")),
    })
}

/// Adds what the blocks of a text declare. `source` is the original text, with the same positions.
fn add_all(text: &str, source: &str, folder: &mut Folder) -> Result<(), Error> {
    for block in parse_body(text)?.blocks() {
        let labels: Vec<&str> = block.labels.iter().map(BlockLabel::as_str).collect();
        folder.add(block.ident.as_str(), &labels, &Written { source, body: &block.body });
    }
    Ok(())
}

/// Adds what the blocks of a piece declare that cannot be parsed: their labels at least.
fn add_repaired(piece: &str, folder: &mut Folder) {
    for block in repaired(piece) {
        if add_all(&block.text, block.source, folder).is_err() {
            let empty = format!("{}{{}}", block.header);
            let _ = add_all(&empty, &empty, folder);
        }
    }
}

/// Where a piece cannot be read.
fn place(piece: &Piece<'_>, error: &Error) -> String {
    let place = error.location();
    let (line, column) = (piece.line + place.line() - 1, place.column());
    format!("the block in line {} could not be read: error in line {line}, column {column}", piece.line)
}

/// The body of a block, with the text that it was read from.
#[derive(Clone, Copy)]
struct Written<'a> {
    source: &'a str,
    body: &'a Body,
}

impl blocks::Body for Written<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.value(key).map(|value| self.string(value))
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.value(key).and_then(truth)
    }

    fn type_(&self) -> Option<String> {
        self.written("type").map(|written| match written.trim_matches('"') {
            // The quoted form of Terraform 0.11.
            quoted @ ("string" | "list" | "map" | "any") => quoted.to_owned(),
            _ => written,
        })
    }

    fn default(&self) -> Option<String> {
        self.written("default")
    }

    fn provider(&self) -> Option<String> {
        self.written("provider").map(|written| written.trim_matches('"').to_owned())
    }

    fn required_providers(&self) -> Vec<Provider> {
        let blocks = self.body.get_blocks("required_providers");
        let required = blocks.flat_map(|block| block.body.attributes()).map(|provider| {
            let named = Provider::named(provider.key.as_str());
            match &provider.value {
                Expression::Object(object) => Provider {
                    source: attribute(object, Some("source")).map(|source| self.string(source)),
                    version: attribute(object, Some("version")).map(|version| self.string(version)),
                    aliases: self.aliases(object, &named.name),
                    ..named
                },
                // A name stands for what cannot be parsed.
                Expression::Variable(_) => named,
                // The form of Terraform 0.12.
                version => Provider { version: Some(self.string(version)), ..named },
            }
        });
        required.collect()
    }
}

impl<'a> Written<'a> {
    /// The configurations of a provider that a caller has to pass.
    fn aliases(self, object: &Object, provider: &str) -> Vec<String> {
        let listed = attribute(object, Some("configuration_aliases")).and_then(Expression::as_array);
        let written = listed.into_iter().flat_map(Array::iter).map(|alias| self.raw(alias));
        written.filter(|alias| is_configuration(alias, provider)).collect()
    }

    fn value(self, key: &str) -> Option<&'a Expression> {
        self.body.get_attribute(key).map(|attribute| &attribute.value)
    }

    /// The expression of an attribute, as it is written.
    fn written(self, key: &str) -> Option<String> {
        self.value(key).map(|value| self.raw(value))
    }

    fn raw(self, value: &Expression) -> String {
        value.span().and_then(|span| self.source.get(span)).map(dedented).unwrap_or_default()
    }

    /// The value of a string; the source text of any other expression.
    fn string(self, value: &Expression) -> String {
        let text = match value {
            Expression::String(text) => Some(text.value().clone()),
            Expression::StringTemplate(template) => literal(template),
            Expression::HeredocTemplate(heredoc) => literal(&heredoc.template).map(|text| unindented(&text)),
            _ => None,
        };
        text.map_or_else(|| self.raw(value), |text| cut(text.trim().to_owned()))
    }
}

/// The value of a constant that is true or false, also as a text, in parentheses or negated.
fn truth(value: &Expression) -> Option<bool> {
    match value {
        Expression::Parenthesis(parenthesis) => truth(parenthesis.inner()),
        Expression::UnaryOp(operation) if *operation.operator == UnaryOperator::Not => {
            truth(&operation.expr).map(|value| !value)
        }
        value => value.as_bool().or_else(|| value.as_str().and_then(|text| text.parse().ok())),
    }
}

/// The text of a template in which nothing is computed.
fn literal(template: &Template) -> Option<String> {
    template
        .iter()
        .map(|element| match element {
            Element::Literal(text) => Some(text.value().as_str()),
            Element::Interpolation(_) | Element::Directive(_) => None,
        })
        .collect()
}

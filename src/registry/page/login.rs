//! The page on which people sign in and out.

use maud::{Markup, html};

use super::shell::{Viewer, returning};

/// What the page offers.
pub(super) struct Offer<'a> {
    /// Who looks at the page, and where to go afterwards.
    pub viewer: &'a Viewer,
    /// The sentence about a session without a user, which can only be ended.
    pub session: Option<&'static str>,
    /// Whether there is an identity provider.
    pub has_provider: bool,
    /// Whether a form can sign in or out.
    pub has_forms: bool,
    /// Why the last attempt failed.
    pub refused: Option<&'a str>,
}

impl Offer<'_> {
    pub(super) fn render(&self) -> Markup {
        let Viewer { user, path, .. } = self.viewer;
        html! {
            div.message {
                h1 { @if user.is_some() { "You are signed in" } @else { "Sign in" } }
                @if let Some(sentence) = self.refused { p.notice.bad role="alert" { (sentence) } }
                @if let Some(user) = user {
                    p { "As " code { (user) } "." }
                    @if self.has_forms { (sign_out("/")) }
                } @else {
                    @if let Some(sentence) = self.session {
                        p.notice.warn role="status" { (sentence) }
                        @if self.has_forms { (sign_out(path)) }
                    }
                    @if self.has_provider {
                        p { a.button href=(returning("/login/start", path)) { "Sign in with the identity provider" } }
                    }
                    @if self.has_forms { (self.form()) }
                    @if !self.has_provider && !self.has_forms {
                        p { "Signing in is not possible here, since the registry runs without an https URL in "
                            code { "--url" } "." }
                    }
                }
                p { a href=(path) { "Back" } }
            }
        }
    }

    fn form(&self) -> Markup {
        html! {
            form action="/login" method="post" {
                input type="hidden" name="return" value=(self.viewer.path);
                label for="token" { "Token" }
                input #token type="password" name="token" required autocomplete="off" maxlength="4096";
                p.count { "The token that Terraform uses for this registry. It is kept in a cookie of this browser, encrypted, for at most 12 hours." }
                button type="submit" { "Sign in" }
            }
        }
    }
}

fn sign_out(back: &str) -> Markup {
    html! {
        form action="/logout" method="post" {
            input type="hidden" name="return" value=(back);
            button type="submit" { "Sign out" }
        }
    }
}

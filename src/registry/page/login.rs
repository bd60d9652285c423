//! The page on which people sign in and out.

use maud::{Markup, html};

/// What the page offers.
pub(super) struct Offer<'a> {
    /// The user who is signed in.
    pub user: Option<&'a str>,
    /// What to say of a session without a user, which can only be ended.
    pub session: Option<&'static str>,
    /// Where to go afterwards: a path of this registry.
    pub back: &'a str,
    /// Whether there is an identity provider.
    pub has_provider: bool,
    /// Whether a form can sign in or out.
    pub has_forms: bool,
    /// Why the last attempt failed.
    pub refused: Option<&'a str>,
}

impl Offer<'_> {
    pub(super) fn render(&self) -> Markup {
        html! {
            div.message {
                h1 { @if self.user.is_some() { "You are signed in" } @else { "Sign in" } }
                @if let Some(sentence) = self.refused { p.notice.bad role="alert" { (sentence) } }
                @if let Some(user) = self.user {
                    p { "As " code { (user) } "." }
                    @if self.has_forms { (sign_out("/")) }
                } @else {
                    @if let Some(sentence) = self.session {
                        p.notice.warn role="status" { (sentence) }
                        @if self.has_forms { (sign_out(self.back)) }
                    }
                    @if self.has_provider { (self.provider()) }
                    @if self.has_forms { (self.form()) }
                    @if !self.has_provider && !self.has_forms {
                        p { "Signing in is not possible here, since the registry runs without an https URL in "
                            code { "--url" } "." }
                    }
                }
                p { a href=(self.back) { "Back" } }
            }
        }
    }

    fn provider(&self) -> Markup {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("return", self.back);
        html! {
            p { a.button href={ "/login/start?" (query.finish()) } { "Sign in with the identity provider" } }
        }
    }

    fn form(&self) -> Markup {
        html! {
            form action="/login" method="post" {
                input type="hidden" name="return" value=(self.back);
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

//! Which requests belong to signing in.

use http::Method;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAction {
    /// A form with a token.
    Login,
    /// A form that ends the session.
    Logout,
    /// A link to the identity provider.
    Start,
    /// The redirect from the identity provider.
    Callback,
}

/// The action of a request; `None` if it is none of signing in.
pub fn action(method: &Method, path: &str) -> Option<SessionAction> {
    match (path, method.as_str()) {
        ("/login", "POST") => Some(SessionAction::Login),
        ("/logout", "POST") => Some(SessionAction::Logout),
        ("/login/start", "GET") => Some(SessionAction::Start),
        (super::login::CALLBACK, "GET") => Some(SessionAction::Callback),
        _ => None,
    }
}

/// The methods of a path of signing in; `None` for other paths.
pub fn methods(path: &str) -> Option<&'static str> {
    match path {
        "/login" => Some("GET, POST"),
        "/logout" => Some("POST"),
        "/login/start" | super::login::CALLBACK => Some("GET"),
        _ => None,
    }
}

/// The largest form that is read from a request, in bytes. A token that fits into a cookie has at most 3 KiB.
pub fn largest_form(method: &Method, path: &str) -> u64 {
    match action(method, path) {
        Some(SessionAction::Login | SessionAction::Logout) => 16 << 10,
        Some(SessionAction::Start | SessionAction::Callback) | None => 0,
    }
}

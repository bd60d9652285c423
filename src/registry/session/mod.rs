//! Signing in: a token in a sealed cookie, which counts for the page and never for the API, and the identity provider of
//! `--login-issuer`.
//!
//! | file | content |
//! |---|---|
//! | `sessions` | [`Sessions`]: what the handler and the page call |
//! | `path` | which requests belong here |
//! | `request` | the parts of a request: its origin, its form, and the page to return to |
//! | `cookie` | cookies: names, attributes, how they are read |
//! | `token` | the content of a session |
//! | `attempt` | the content of a cookie that waits for the identity provider |
//! | `login` | `--login-issuer` and its companions, and their part of service discovery |
//! | `provider` | the provider's endpoints, read in the background, and the exchange of a code |
//! | `callback` | what the provider sends back, and which of its tokens is taken |
//! | `sign_in_error` | why a sign-in failed |

mod attempt;
mod callback;
mod cookie;
mod login;
mod path;
mod provider;
mod request;
mod sessions;
mod sign_in_error;
mod token;

pub use self::login::{Login, LoginError, LoginSettings};
pub use self::path::{SessionAction, action, largest_form, methods};
pub use self::request::back;
pub(crate) use self::request::local;
pub use self::sessions::Sessions;
pub use self::sign_in_error::SignInError;

#[cfg(test)]
mod tests;

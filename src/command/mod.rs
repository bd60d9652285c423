//! The commands besides the servers. Each does one thing, with the user's kubeconfig or without a cluster, and prints the result.
//!
//! | file | command |
//! |---|---|
//! | `archive` | `opendepot archive` |
//! | `check` | `opendepot check` |
//! | `notice` | `opendepot deprecate`, `opendepot withdraw` |
//! | `publish` | `opendepot publish` |
//! | `source` | `opendepot source` |
//! | `validate` | `opendepot validate` |
//! | `version` | `opendepot version` |
//! | `arguments` | values of arguments that the commands share |
//! | `connection` | the connection to a cluster |
//! | `output` | the forms of output that the commands share |

pub mod archive;
pub(crate) mod arguments;
pub mod check;
pub mod connection;
pub mod notice;
pub mod output;
pub mod publish;
pub mod source;
pub mod validate;
pub mod version;

//! Every setting of a Mastio, read once from the environment and proxy.env.
//!
//! [`VARIABLES`] is the table of all names, as data. A [`Source`] holds what the process environment and `proxy.env`
//! say; [`Settings::load`] turns it into typed values, or into every [`Problem`] at once. [`show`] prints what is in
//! effect with secrets masked, [`reference_markdown`] writes the operator's page, and [`proxy_env::write_fresh`]
//! makes the file of a first start.
//!
//! Contract: `operations.md` §2 (variables), §14 (grammar of `proxy.env`); design §6.

mod problem;
pub mod proxy_env;
mod reader;
mod reference;
mod settings;
mod show;
mod source;
pub mod variable;

pub use problem::{Problem, Problems};
pub use reference::reference_markdown;
pub use settings::{
    Audit, Custody, Dashboard, Database, Dpop, EgressDpop, Environment, Expiry, GlobalLimit, KeyRotation,
    Limits, Listen, Loaded, LogFormat, Settings, Syslog, Tsa, WarnDays, Witness, Witnessing,
};
pub use show::show;
pub use source::Source;
pub use variable::VARIABLES;

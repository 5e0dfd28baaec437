//! Listeners, routes and middleware.

pub mod answer;
mod body;
mod bucket;
mod crowd;
mod dashboard;
pub mod etag;
mod forwarded;
pub mod fuzz;
pub mod listen;
pub mod metrics;
pub mod middleware;
mod multipart;
mod plain;
pub mod routes;
pub mod telemetry;
pub mod tls;

pub use bucket::Rate;
pub use forwarded::Trust;
pub use routes::App;

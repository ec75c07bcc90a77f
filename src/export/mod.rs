//! Everything that talks to Stream: which channels there are, asking for exports, following their tasks, reading their files.
//!
//! ```text
//!  discovery.rs       request.rs          task.rs            download.rs
//!  ChannelRef    ->   ExportTask    ->    TaskFile     ->    Bytes
//!  pages by           missing ones        polled, with       resumed where
//!  created_at         isolated            a deadline         it broke off
//! ```
//! Users have no channels to be found and no windows: users.rs asks for them.
//! All of it goes through one [`Client`], which signs (credentials.rs), keeps the pace (pace.rs), retries (retry.rs), counts and
//! reads Stream's clock. What Stream says is in wire.rs, what its refusals mean in error.rs.
//! The legacy paths are used (`/export_channels`, `/export/users`, `/tasks/{id}`, `/channels`): every SDK generation of exports knows them, and
//! their timestamps are text.

pub mod channel_list;
mod client;
mod credentials;
mod discovery;
mod download;
mod endpoint;
mod error;
mod filter;
mod limits;
mod outcomes;
mod pace;
mod request;
mod retry;
#[cfg(test)]
mod scripted;
mod task;
mod transport;
mod trial;
mod users;
mod wire;

pub use client::{Client, DEFAULT_BASE_URL, Options};
pub use credentials::{Credentials, CredentialsError};
pub use discovery::{ChannelRef, Discovery, DiscoveryError, Hello, Selection};
pub use download::{Download, DownloadError};
pub use endpoint::Endpoint;
pub use error::{ApiError, Refusal};
pub use filter::{FilterError, check as check_filter};
pub use limits::RateLimit;
pub use outcomes::Outcome;
pub use request::{Asked, Asking, ExportOptions, ExportRequest, ExportTask, ExportVersion, MAX_CHANNELS};
pub use retry::Policy;
pub use task::{SignedUrl, TaskError, TaskFile, TaskState};
pub use transport::{SendError, Transport};
pub use trial::{EtagForm, RangeForm, Served, Trial};
pub use users::{AskedUsers, ExportedUser, MAX_USERS};

//! chatlake moves a Stream Chat app's conversations into a Parquet data lake, exactly once. See `ARCHITECTURE.md`.
//!
//! The modules in the order in which a message meets them:
//!
//! ```text
//! sync -> plan -> pipeline: export -> decompress -> ndjson -> decode -> sort -> write -> lake
//!         window                                          schema
//!                                                         content
//! ```

pub mod array;
pub mod check;
pub mod columns;
pub mod config;
pub mod content;
pub mod convert;
pub mod decode;
pub mod decompress;
pub mod export;
pub mod figures;
pub mod file_type;
pub mod gc;
pub mod inspect;
pub mod journal;
pub mod json;
pub mod lake;
pub mod memory;
pub mod metrics;
pub(crate) mod names;
pub mod ndjson;
pub mod pipeline;
pub mod plan;
pub mod resident;
pub mod schema;
pub mod serve;
pub mod sort;
pub mod sync;
pub mod users;
pub mod window;
pub mod write;

pub mod cli;
pub mod clock;
mod connection;
pub mod cpu;
#[cfg(debug_assertions)]
pub mod crash;
pub mod ddl;
pub mod demo;
pub mod error;
pub mod kinds;
pub mod logs;
pub mod mounted;
pub mod progress;
pub mod reference;
pub mod settings;
pub mod summary;
mod temp_dir;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod simulation;

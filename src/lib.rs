//! chatlake moves a Stream Chat app's conversations into a Parquet data lake, exactly once. See `ARCHITECTURE.md`.

pub mod batch;
pub mod cli;
pub mod clock;
pub mod collect;
pub mod decode;
pub mod demo;
pub mod envelope;
pub mod error;
pub mod export;
pub mod file_cutter;
pub mod gunzip;
pub mod hidden;
pub mod lake;
pub mod ndjson;
pub mod old_files;
pub mod parquet_file;
pub mod parquet_read;
pub mod pipeline;
pub mod plan;
pub mod progress;

pub mod schema;
pub mod settings;
pub mod sort;
pub mod summary;
pub mod sync;
pub mod window;
pub mod write;

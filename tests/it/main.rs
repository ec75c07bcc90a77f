//! Whole runs: the binary against the simulator, lakes on local disk and on a real S3 server, read back by PyArrow and DuckDB.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod again;
mod automatic;
mod backfill;
mod bad_input;
mod bench;
mod check;
mod check_format;
mod columns;
mod contract;
mod convert;
#[cfg(debug_assertions)]
mod crash;
mod damaged;
mod engines;
mod exact;
mod faults;
mod gc;
mod inside;
mod inspect;
mod kill;
mod lateness;
mod ledger;
mod load;
mod lost_answers;
mod many;
mod race;
mod refusals;
mod replace;
mod samples;
mod stores;
mod users;
mod verify;
mod version_1;
mod watch;

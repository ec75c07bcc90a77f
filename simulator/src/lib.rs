//! A faithful, scriptable stand-in for Stream Chat's export surface: a small app with users, channels and messages behind
//! the API that exports it, with a switch for everything that Stream does not document and a script for everything that
//! can go wrong.
//!
//! ```
//! use chatlake_simulator::{Config, Size, Simulator, World};
//!
//! let simulator = Simulator::start(Config { world: World::seeded(7, &Size::default()), ..Config::default() })?;
//! let at = simulator.now();
//! simulator.world(|world| world.send("team:general", "amara", "Good morning!", at))?;
//! assert!(simulator.truth().messages.iter().any(|message| message.text == "Good morning!"));
//! assert!(simulator.calls().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod api_error;
mod app;
mod auth;
mod calls;
mod channels;
mod clock;
mod control;
mod corpus;
mod download;
mod endpoint;
mod entity;
mod exports;
mod fault;
mod file;
mod filter;
mod limits;
mod object;
mod payload;
mod seed;
mod server;
mod service;
mod simulator;
pub mod switches;
mod task;
mod truth;
mod user_exports;
mod world;

pub use auth::server_token;
pub use calls::Call;
pub use clock::Clock;
pub use entity::{
    Channel, Custom, Member, Message, MessageKind, Poll, PollOption, PollVote, Reaction, SharedLocation, User,
};
pub use fault::{Effect, Fault};
pub use file::{BadLine, Insertion};
pub use filter::check as check_filter;
pub use seed::Size;
pub use service::{Served, Service};
pub use simulator::{Config, Simulator};
pub use switches::Switches;
pub use truth::{TrueMessage, TrueReaction, Truth, TruthOptions};
pub use world::{World, WorldError};

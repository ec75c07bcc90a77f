pub mod error;
pub mod window;

//! The wire: frames, the bodies in them, and the messages a server sends.
//!
//! [`frame`] cuts a byte stream into bodies, [`body`] reads a client's body (the tutorial's or v1's, with [`ask`] for the
//! ops of chat), [`message`] and [`push`] write and read a server's. Nothing here keeps state beyond one incomplete frame, and nothing here closes a link:
//! it says what is wrong, and the shard decides.

pub mod ask;
pub mod body;
pub mod error;
pub mod frame;
pub mod legacy;
pub mod message;
pub mod push;
pub mod request;

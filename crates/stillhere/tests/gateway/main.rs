//! The gateway over real sockets: the daemon as a process, clients as bytes, operators as HTTP.
//!
//! Every test has a daemon, ports and a data dir of its own. Nobody sleeps: a test blocks on a socket until something
//! happens, or, where a span of time is the point, until it is over without a byte.
//!
//! - `gateway`, `admin`, `peer`: the daemon, its HTTP API, and a client's end of a link
//! - `bystanders`, `trial`: honest clients that must not notice what an offender does
//! - `lengths`, `bodies`, `strangers`, `dawdlers`, `herds`: bad input
//! - `legacy`, `hello`, `resume`, `secrets`, `restart`: the two modes and what survives
//! - `talker`: a user's end of a link; `accounts`, `rooms`, `signals`, `presence`: what people do
//! - `chat_table`, `chat_limits`, `chat_resume`: every op wrong, too much of it, and links that break in between
//! - `carrier`, `tls`, `websocket`, `proxy`: other transports than plain TCP
//! - `detector`: who is still here, in real time
//! - `storm`: all of the storm's attacks, beside honest clients
//! - `operator`, `office`, `limits`, `api`, `events`: whoever runs the gateway

mod accounts;
mod admin;
mod api;
mod bodies;
mod bystanders;
mod carrier;
mod catch_up;
mod chat_limits;
mod chat_resume;
mod chat_table;
mod dawdlers;
mod detector;
mod events;
mod gateway;
mod hello;
mod herds;
mod legacy;
mod lengths;
mod limits;
mod office;
mod operator;
mod peer;
mod presence;
mod proxy;
mod restart;
mod resume;
mod rooms;
mod secrets;
mod signals;
mod storm;
mod strangers;
mod talker;
mod tls;
mod trial;
mod websocket;

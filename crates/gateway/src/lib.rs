//! The HTTP front door to services.
//!
//! Invariant: it decides nothing. Which instances there are it learns from the controller, and
//! what a name means is fixed: `http://NAME.localhost:PORT/` is the first port of the service
//! `NAME`, `http://PORTNAME.NAME.localhost:PORT/` another one. Each service has a host name of its
//! own, so that a browser keeps the cookies and pages of one service from another and from the API.
//!
//! [`Gateway::serve`] puts it in front of the API on the same port.
//!
//! A request reaches its instance through the instance's node, which opens the socket inside the
//! instance's network namespace: an instance needs no network for it. On this machine that socket
//! is handed over; from another it is reached through the link of its node.
//!
//! Inside, [`Guide`] says where a request goes, and an engine of its own brings it there, on
//! threads of its own (`h1`, `bridge`, `worker`, `front`).

pub mod acme;
mod address;
mod answer;
mod bridge;
mod clock;
mod front;
mod gateway;
mod guide;
mod h1;
mod headers;
mod io;
mod network;
mod pool;
mod refusal;
mod routes;
mod sessions;
pub mod tls;
mod worker;

pub use address::{Address, Domains};
pub use answer::{Answer, REASON_FIELD};
pub use front::{CONNECTIONS_MAX, Door, Settings, serve};
pub use gateway::Gateway;
pub use guide::{Ask, Decision, Forward, Guide, Pending, Target, Without};
pub use h1::head::RequestHead;
pub use io::UpstreamIo;
pub use network::{Network, NotANetwork};
pub use refusal::Refusal;
pub use sessions::{HELD_MAX, HELD_TIME_MAX, PAGE_AFTER};

//! The HTTP front door to services.
//!
//! Invariant: it decides nothing. Which instances there are it learns from the controller, and
//! what a name means is fixed: `http://NAME.localhost:PORT/` is the first port of the service
//! `NAME`, `http://PORTNAME.NAME.localhost:PORT/` another one. Each service has a host name of its
//! own, so that a browser keeps the cookies and pages of one service from another and from the API.
//!
//! [`Gateway::in_front_of`] puts it in front of the API on the same port.
//!
//! A request reaches its instance through the controller and the instance's node, which opens the
//! socket inside the instance's network namespace: an instance needs no network for it.

mod address;
mod headers;
mod pool;
mod proxy;
mod refusal;
mod routes;

pub use address::Address;
pub use proxy::Gateway;

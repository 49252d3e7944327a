//! The protocol engine between raw sockets: what a client writes byte for byte, and what reaches
//! the other side.

mod bodies;
mod connections;
mod http2;
mod smuggling;
mod support;

//! What the `spawnery` binary promises, tried with the real one.

mod agent;
mod builds;
mod commands;
mod config;
mod contents;
mod ends;
mod environments;
mod fleet;
mod inside;
mod kill;
mod manifests;
mod run;
mod server;
mod servers;
mod sessions;
mod sessions_by_url;
mod support;
mod tls;
mod tokens;
mod up;
mod websocket;

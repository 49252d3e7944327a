//! What the `spawnery` binary promises, tried with the real one.

mod agent;
mod commands;
mod config;
mod environments;
mod fleet;
mod inside;
mod kill;
mod manifests;
mod run;
mod server;
mod support;
mod up;

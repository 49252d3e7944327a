//! The API's contract, over a real controller and a node that only pretends.

mod access;
mod auth;
mod common;
mod describe;
mod events;
mod fake_node;
mod files;
mod idempotency;
mod keeping;
mod limits;
mod lists;
mod logs;
mod manifest;
mod nodes;
mod problems;
mod processes;
mod rubbish;
mod serving;
mod sessions;
mod tokens;
mod usage;

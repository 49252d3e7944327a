//! The HTTP API: JSON under `/v1`, streams as Server-Sent Events, metrics, health.
//!
//! Invariant: it decides nothing. Every change goes through a [`Command`], every read through a
//! query, and no view holds a secret. Every request but those for health and for the API's own
//! description shows a bearer token, whose roles say which routes it may call (`rules`) and whose
//! subject says which sessions it sees; every error is a problem document (RFC 9457).
//!
//! How a request travels: the gateway takes the connection, `guard` checks host, token and limits, a
//! handler turns it into a command or a query, and what went wrong is written by `guard` in one
//! place, so that no error can have another form.
//!
//! [`Command`]: spawnery_cluster::Command

mod app;
mod asker;
mod attach;
mod body;
mod config;
mod content;
mod environments;
mod events;
mod failure;
mod figures;
mod files;
mod find;
mod follower;
mod guard;
mod health;
mod history;
mod host;
mod idempotency;
mod instances;
mod jobs;
pub mod limits;
mod list;
mod lives;
mod logs;
mod manifest;
mod metrics;
mod nodes;
mod openapi;
mod parameters;
mod ports;
mod processes;
mod rejections;
mod revoked;
mod router;
mod rules;
mod secrets;
mod services;
mod sessions;
mod sse;
mod status;
mod templates;
mod tokens;
mod usage;
mod views;
mod volumes;
mod workloads;

pub use config::{Config, PublicAddress, SessionDefaults, Stopping};
pub use openapi::description;
pub use router::router;

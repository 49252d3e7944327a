//! Starts one isolated process and tells how it went.
//!
//! The [`launcher`] is a small process that starts sandboxes, keeps their output and exit
//! status on disk, and outlives the agent that uses it. Callers talk to it over a Unix socket
//! in the terms of [`protocol`], with [`client::Client`] or a client of their own on top of
//! [`protocol::encode_frame`], [`protocol::decode_frame`] and [`fd_passing`]; logs are read
//! from disk with [`log::LogReader`].
//!
//! Knows nothing of clusters, and is the only crate with `unsafe`, all of it in one module.

pub mod accounts;
pub mod capabilities;
pub mod client;
pub mod clock;
pub mod fd_passing;
pub mod files;
pub mod launcher;
pub mod limits;
pub mod log;
pub mod network;
pub mod protections;
pub mod protocol;
pub mod spec;
pub mod tool;

mod base;
mod cgroup;
mod init;
mod kind;
mod rootfs;
mod seccomp;
#[allow(unsafe_code)]
mod sys;
mod tree;

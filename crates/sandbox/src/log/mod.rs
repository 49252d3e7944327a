//! The output of a process: sequence-numbered records in size-limited segment files.
//!
//! A log is a folder of files named by the sequence number of their first record, twenty
//! digits wide. A record is a header of 28 bytes, little-endian, and its bytes:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | length of the payload |
//! | 4 | CRC-32C of everything after this field |
//! | 8 | sequence number, from 1 on without a gap |
//! | 8 | time in milliseconds since the Unix epoch |
//! | 4 | stream: 1 standard output, 2 standard error |
//!
//! The launcher is the only writer; anybody who may read the folder may read the log.

mod reader;
mod record;
mod writer;

pub use reader::{Gap, LogError, LogPage, LogReader};
pub use record::{LogRecord, Stream};
pub(crate) use writer::LogWriter;

//! Frames: a length of four bytes, most significant first, and that many bytes of CBOR.

use minicbor::{Decode, Encode};

/// Bytes of one frame: full orders of a node with thousands of instances fit, and a peer that
/// sends rubbish cannot make us reserve much. A longer one is refused and its link closed.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// A frame cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than allowed.
    #[error("a frame of {length} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLong {
        /// What its head says.
        length: usize,
    },
    /// Not what was expected at this place.
    #[error("a frame cannot be read: {0}")]
    Malformed(#[from] minicbor::decode::Error),
}

/// The bytes of `message` with their length in front.
pub fn encode<T: Encode<()>>(message: &T) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    minicbor::encode(message, &mut bytes).expect("writing to memory does not fail");
    let length = u32::try_from(bytes.len() - 4).expect("messages are far below 4 GiB");
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// The length of the frame that begins with `head`.
pub fn length(head: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(head) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { length });
    }
    Ok(length)
}

/// The message in the bytes after the head.
pub fn decode<T: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, FrameError> {
    Ok(minicbor::decode(bytes)?)
}

//! Unpacks a compressed frame: the beginning of it between other requests, and what is large on a thread beside those
//! of the runtime, a few at the same time.

use std::{
    collections::VecDeque,
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::{
    super::{
        budget::Held,
        entries::Entries,
        gzip::{InflateError, Inflating},
        size::too_large,
    },
    HEADER_BYTES, Messages,
};
use crate::{limits::UNPACKED_AT_ONCE_MAX, rpc::Requests};

/// How far a frame is.
pub(super) enum Step {
    Unpacked(Unpacked),
    Unpacking(Unpacking),
}

/// A frame that is no longer compressed.
pub(super) struct Unpacked {
    pub(super) frame: Bytes,
    /// Bytes of it that were counted already.
    pub(super) counted_bytes: usize,
    /// What its message takes beside them when it is decoded.
    pub(super) decoded_bytes: usize,
    /// Dropped when the frame is taken: as many large frames as are unpacked may wait for that.
    permit: Option<OwnedSemaphorePermit>,
}

/// A frame that is being unpacked elsewhere.
pub(super) struct Unpacking(BoxFuture<'static, Result<Unpacked, Status>>);

impl fmt::Debug for Unpacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unpacking")
    }
}

impl Unpacking {
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Unpacked, Status>> {
        self.0.poll_unpin(context)
    }
}

/// Begins with a frame.
pub(super) fn begin(
    compressed: VecDeque<Bytes>,
    messages: Messages,
    held: &Held,
) -> Result<Step, Status> {
    let Messages {
        requests,
        bytes_max,
        entries,
    } = messages;
    let mut inflating = Inflating::new(compressed, HEADER_BYTES, bytes_max);
    // What becomes too much is nearly always found in its beginning, where it has cost little.
    for bytes in [UNPACKED_AT_ONCE_MAX / 8, UNPACKED_AT_ONCE_MAX] {
        if inflating.unpack_to(bytes).map_err(refused)? {
            let unpacked = unpacked(inflating, 0, entries)?;
            return Ok(Step::Unpacked(unpacked));
        }
        entries.check_beginning(inflating.unpacked())?;
    }
    held.add(UNPACKED_AT_ONCE_MAX)?;
    let held = held.clone();
    let beside = async move {
        let permit = held.unpacker().await?;
        let unpacking = tokio::task::spawn_blocking(move || {
            // It is held to the end also when the client has gone away meanwhile.
            inflating.unpack().map_err(refused)?;
            let mut unpacked = unpacked(inflating, UNPACKED_AT_ONCE_MAX, entries)?;
            // A stream takes its next message when it likes.
            unpacked.permit = Some(permit).filter(|_| requests == Requests::One);
            Ok(unpacked)
        });
        let unpacked = unpacking.await;
        unpacked.map_err(|error| Status::internal(error.to_string()))?
    };
    Ok(Step::Unpacking(Unpacking(beside.boxed())))
}

fn unpacked(
    inflating: Inflating,
    counted_bytes: usize,
    entries: Entries,
) -> Result<Unpacked, Status> {
    let decoded_bytes = entries.check([inflating.unpacked()])?;
    let mut frame = inflating.finish();
    let length =
        u32::try_from(frame.len() - HEADER_BYTES).expect("limits of messages are far below 4 GiB");
    frame[1..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(Unpacked {
        frame: frame.into(),
        counted_bytes,
        decoded_bytes,
        permit: None,
    })
}

fn refused(error: InflateError) -> Status {
    match error {
        InflateError::TooLarge { limit_bytes } => too_large(limit_bytes),
        InflateError::Broken(error) => Status::invalid_argument(format!(
            "A message of the request is not valid gzip: {error}."
        )),
    }
}

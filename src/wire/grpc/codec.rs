//! The codec of every RPC: prost, with a malformed request answered as INVALID_ARGUMENT.
//!
//! tonic's own codec answers INTERNAL, which clients retry (docs/behaviour.md, section 3.4).

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, DecodeBuf, EncodeBuf},
};

use crate::{limits::DECODED_AT_ONCE_MAX, wire::layers::moved_on};

/// Bytes that an answer starts with; a small one needs no more.
const ENCODE_BUFFER_BYTES: usize = 256;
/// Bytes of small frames that go out together.
const ENCODE_YIELD_BYTES: usize = 32 * 1024;

/// Encodes `T` and decodes `U`; on the server the answer and the request of an RPC.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Encoder<T>;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> Encoder<T> {
        Encoder(PhantomData)
    }

    fn decoder(&mut self) -> Decoder<U> {
        Decoder(PhantomData)
    }
}

/// Writes messages into a buffer that is made large enough once.
#[derive(Debug)]
pub struct Encoder<T>(PhantomData<T>);

impl<T: Message> tonic::codec::Encoder for Encoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // Growing step by step would copy a frame of several megabytes several times.
        buffer.reserve(message.encoded_len());
        message
            .encode(buffer)
            .map_err(|error| Status::internal(format!("the answer cannot be encoded: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ENCODE_BUFFER_BYTES, ENCODE_YIELD_BYTES)
    }
}

/// Reads messages; byte fields are slices of the request.
#[derive(Debug)]
pub struct Decoder<U>(PhantomData<U>);

impl<U: Message + Default> tonic::codec::Decoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // All of it: what a broken message leaves unread must not be taken for the next one. Slices of `Bytes` cost less
        // than slices of tonic's buffer.
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let message = if bytes.len() > DECODED_AT_ONCE_MAX {
            moved_on::now(|| U::decode(bytes))
        } else {
            U::decode(bytes)
        };
        message.map(Some).map_err(|error| {
            Status::invalid_argument(format!("The request cannot be decoded: {error}"))
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        // No room in advance: a stored message is a slice of this buffer and keeps all of it in memory, so it has
        // to be as large as the request and no larger.
        BufferSettings::new(0, ENCODE_YIELD_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use tonic::{Code, Streaming, codec::Codec as _};

    use super::*;
    use crate::proto::google::pubsub::v1::Topic;

    async fn decode(message: &[u8]) -> Result<Option<Topic>, Status> {
        let length = u32::try_from(message.len()).expect("small");
        let frame = [&[0], &length.to_be_bytes()[..], message].concat();
        let decoder = Codec::<Topic, Topic>::default().decoder();
        let body = Full::new(Bytes::from(frame));
        Streaming::new_request(decoder, body, None, None)
            .message()
            .await
    }

    #[tokio::test]
    async fn a_message_arrives_as_it_was_sent() {
        let topic = Topic {
            name: "projects/p/topics/t".to_owned(),
            ..Topic::default()
        };
        let decoded = decode(&topic.encode_to_vec()).await;
        assert_eq!(decoded.expect("a message"), Some(topic));
    }

    #[tokio::test]
    async fn broken_protobuf_and_text_that_is_not_utf8_are_the_clients_fault() {
        for message in [&[0x0a, 1, 0xff][..], &[0x0a, 200, 1], &[0x0b], &[0xff]] {
            let refused = decode(message).await.expect_err("broken");
            assert_eq!(refused.code(), Code::InvalidArgument, "{message:?}");
        }
    }

    /// A message that is read once another task has run.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Waiting;

    impl Message for Waiting {
        fn encode_raw(&self, _buffer: &mut impl bytes::BufMut) {}

        fn merge_field(
            &mut self,
            tag: u32,
            wire_type: prost::encoding::WireType,
            buffer: &mut impl Buf,
            context: prost::encoding::DecodeContext,
        ) -> Result<(), prost::DecodeError> {
            let (ran, runs) = std::sync::mpsc::channel();
            tokio::spawn(async move { ran.send(()) });
            let ran = runs.recv_timeout(std::time::Duration::from_secs(10));
            ran.expect("another task runs meanwhile");
            prost::encoding::skip_field(wire_type, tag, buffer, context)
        }

        fn encoded_len(&self) -> usize {
            0
        }

        fn clear(&mut self) {}
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_go_on_while_a_large_message_is_decoded() {
        let message = Topic {
            name: "a".repeat(DECODED_AT_ONCE_MAX),
            ..Topic::default()
        };
        let message = message.encode_to_vec();
        // On the one thread that there is for tasks.
        let decoded = tokio::spawn(async move {
            let length = u32::try_from(message.len()).expect("small");
            let frame = [&[0], &length.to_be_bytes()[..], &message].concat();
            let decoder = Codec::<Waiting, Waiting>::default().decoder();
            let body = Full::new(Bytes::from(frame));
            Streaming::new_request(decoder, body, None, None)
                .message()
                .await
        });
        let decoded = decoded.await.expect("it does not wait in vain");
        assert_eq!(decoded.expect("a message"), Some(Waiting));
    }
}

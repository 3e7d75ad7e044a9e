//! The codec of every RPC: prost, with a malformed request answered as INVALID_ARGUMENT.

/// See the module.
pub type Codec<T, U> = tonic_prost::ProstCodec<T, U>;

//! Variable-length numbers: seven bits a byte, the lowest first.

use bytes::BufMut;

/// Longest form of a number, bytes.
pub(crate) const BYTES_MAX: usize = 10;

pub(crate) fn put(buf: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        buf.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

/// Takes a number off the front; `None` when there is no whole one.
pub(crate) fn take(body: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = body.split_first()?;
        *body = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

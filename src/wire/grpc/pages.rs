//! How much of a list goes into one answer: clients refuse answers of more than 4 MiB (docs/behaviour.md, section 21).

use prost::{Message, length_delimiter_len};

use crate::{
    limits::PAGE_BYTES_MAX,
    resource::page::{Page, PageRequest},
};

/// The part of `page` that fits into an answer; `name` gives an entry's full name.
pub(super) fn cut<T: Message>(
    page: Page<T>,
    request: &PageRequest,
    name: impl Fn(&T) -> &str,
) -> Page<T> {
    let bytes = |entry: &T| {
        let length = entry.encoded_len();
        // Behind the number of its field, which is one byte.
        1 + length_delimiter_len(length) + length
    };
    page.cut(request, PAGE_BYTES_MAX, bytes, name)
}

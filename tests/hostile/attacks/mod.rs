//! The attacks, a file each.

mod endless_bodies;
mod half_requests;
mod headers;
mod json_floods;
mod large_texts;
mod many_parts;
mod repeated_ack_ids;
mod silent_sockets;
mod unfinished;
mod unread_deliveries;
mod unread_lists;
mod unserved_calls;

use crate::Attack;

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Attack>> {
    vec![
        Box::new(endless_bodies::EndlessBodies),
        Box::new(half_requests::HalfRequests),
        Box::new(headers::Headers),
        Box::new(json_floods::JsonFloods::Bodies),
        Box::new(json_floods::JsonFloods::Answers),
        Box::new(large_texts::LargeTexts::default()),
        Box::new(many_parts::ManyParts::default()),
        Box::new(repeated_ack_ids::RepeatedAckIds::default()),
        Box::new(silent_sockets::SilentSockets),
        Box::new(unread_deliveries::UnreadDeliveries),
        Box::new(unread_lists::UnreadLists),
        Box::new(unserved_calls::UnservedCalls),
    ]
}

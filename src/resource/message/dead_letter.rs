//! A message as it is forwarded to a dead letter topic (docs/behaviour.md, section 11.2).

use std::str;

use bytes::Bytes;

use super::{
    layout::ScannedMessage,
    parts::{Parts, encode},
};
use crate::{clock::Timestamp, resource::name::SubscriptionName};

const DELIVERY_COUNT: &str = "CloudPubSubDeadLetterSourceDeliveryCount";
/// The attribute that has the id of the subscription that a dead letter comes from.
pub const SOURCE_SUBSCRIPTION: &str = "CloudPubSubDeadLetterSourceSubscription";
/// The attribute that has the id of its project.
pub const SOURCE_PROJECT: &str = "CloudPubSubDeadLetterSourceSubscriptionProject";
const PUBLISH_TIME: &str = "CloudPubSubDeadLetterSourceTopicPublishTime";

/// Names of the attributes that a dead letter gets.
pub const DEAD_LETTER_ATTRIBUTES: [&str; 4] = [
    DELIVERY_COUNT,
    SOURCE_SUBSCRIPTION,
    SOURCE_PROJECT,
    PUBLISH_TIME,
];

/// Where a dead letter comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Whose deliveries failed.
    pub subscription: &'a SubscriptionName,
    /// How many.
    pub attempts: u32,
    /// When it was published to the subscription's topic.
    pub publish_time: Timestamp,
}

/// The message with the attributes that say where it comes from, over those of an earlier dead letter topic.
pub fn dead_letter(message: &ScannedMessage<'_>, source: Source<'_>) -> Bytes {
    // What is stored was checked to be UTF-8.
    let text = |bytes| str::from_utf8(bytes).unwrap_or_default();
    let attempts = source.attempts.to_string();
    let project = source.subscription.project();
    let publish_time = rfc_3339(source.publish_time);
    let added = [
        (DELIVERY_COUNT, attempts.as_str()),
        (SOURCE_SUBSCRIPTION, source.subscription.id()),
        (SOURCE_PROJECT, project.id()),
        (PUBLISH_TIME, &publish_time),
    ];
    let own = message.attributes();
    let own = own.map(|(name, value)| (text(name), text(value)));
    let own = own.filter(|(name, _)| !DEAD_LETTER_ATTRIBUTES.contains(name));
    encode(&Parts {
        data: message.data(),
        attributes: own.chain(added).collect(),
        ordering_key: text(message.ordering_key()),
    })
}

/// A time as `2022-08-12T15:56:29.732+00:00`.
fn rfc_3339(time: Timestamp) -> String {
    const DAY_MILLIS: u64 = 86_400_000;
    let millis = time.as_millis();
    let (year, month, day) = date(millis / DAY_MILLIS);
    let of_day = millis % DAY_MILLIS;
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, millis) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}+00:00")
}

/// Year, month and day of the month, of so many days after 1970-01-01, in the Gregorian calendar. Years are counted from
/// March, so that the day that some of them lack is the last.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    /// From 0000-03-01 to 1970-01-01.
    const DAYS_BEFORE: u64 = 719_468;
    let days = days + DAYS_BEFORE;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 31, 30, 31, 30, 31 days, and again.
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let month = if is_next_year { month - 9 } else { month + 3 };
    (
        era * 400 + year + u64::from(is_next_year),
        month,
        day_of_month,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::message::Layouts;

    #[test]
    fn times_are_dates_of_the_gregorian_calendar() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000+00:00"),
            (1_660_319_789_732, "2022-08-12T15:56:29.732+00:00"),
            (951_868_799_999, "2000-02-29T23:59:59.999+00:00"),
            (951_868_800_000, "2000-03-01T00:00:00.000+00:00"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000+00:00"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000+00:00"),
            (1_798_761_599_000, "2026-12-31T23:59:59.000+00:00"),
        ] {
            assert_eq!(rfc_3339(Timestamp::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_dead_letter_keeps_what_it_has_and_says_where_it_comes_from_last() {
        let name = "projects/example.com:p/subscriptions/sub";
        let subscription = SubscriptionName::parse("name", name).expect("valid");
        let source = |attempts| Source {
            subscription: &subscription,
            attempts,
            publish_time: Timestamp::from_millis(1_660_319_789_732),
        };
        let forwarded = |message: Bytes, attempts| {
            let messages = [message];
            let layouts = Layouts::of(&messages);
            dead_letter(&layouts.message(0, &messages[0]), source(attempts))
        };
        let parts = |attempts| {
            encode(&Parts {
                data: b"data",
                attributes: vec![
                    ("a", "b"),
                    (DELIVERY_COUNT, attempts),
                    (SOURCE_SUBSCRIPTION, "sub"),
                    (SOURCE_PROJECT, "example.com:p"),
                    (PUBLISH_TIME, "2022-08-12T15:56:29.732+00:00"),
                ],
                ordering_key: "key",
            })
        };
        let original = Parts {
            data: b"data",
            attributes: vec![("a", "b"), (SOURCE_SUBSCRIPTION, "another")],
            ordering_key: "key",
        };
        let first = forwarded(encode(&original), 5);
        assert_eq!(first, parts("5"));
        assert_eq!(forwarded(first, 12), parts("12"));
    }
}

//! What consumers cost that wait while others are served.

use bytes::Bytes;

use super::backlog::Backlog;
use crate::engine::input::{ConsumerId, Demand, Input};

const IDLE: u64 = 1_000;

/// A subscription of so many streams that wait for messages.
fn idle() -> Backlog {
    let mut backlog = Backlog::new(0, 0);
    for consumer in 1..=IDLE {
        backlog.handle(Input::Open {
            consumer: ConsumerId(consumer),
            demand: Demand::Stream {
                ack_deadline_millis: 60_000,
                messages_max: 1_000,
                bytes_max: u64::MAX,
                frames: 2,
            },
        });
    }
    visits(&mut backlog);
    backlog
}

fn visits(backlog: &mut Backlog) -> usize {
    backlog.host.engine.consumers.flow().take_visits()
}

fn publish(backlog: &mut Backlog, messages: usize) -> Input {
    for _ in 0..messages {
        backlog.host.log.append(0, backlog.host.now, Bytes::new());
    }
    Input::LogEnds(backlog.host.log.ends())
}

#[test]
fn a_message_costs_those_who_get_it_however_many_others_wait() {
    let mut backlog = idle();
    for messages in [1, 3] {
        let published = publish(&mut backlog, messages);
        let leases = backlog.handle(published);
        assert_eq!(leases.len(), messages);
        // Each gets one: found as the next in order, and served.
        assert_eq!(visits(&mut backlog), 2 * messages);
        backlog.handle(Input::Ack(leases));
        assert_eq!(visits(&mut backlog), messages);
    }
    backlog.handle(Input::Tick);
    assert_eq!(visits(&mut backlog), 0);
}

#[test]
fn damage_costs_the_pulls_that_are_told_of_it_however_many_streams_wait() {
    let mut backlog = idle();
    for pull in 1..=2 {
        let demand = Demand::Pull {
            messages_max: 1,
            immediate: false,
        };
        let consumer = ConsumerId(IDLE + pull);
        backlog.handle(Input::Open { consumer, demand });
    }
    backlog.host.log.damage(0, 0);
    visits(&mut backlog);
    let published = publish(&mut backlog, 1);
    assert!(backlog.handle(published).is_empty());
    assert_eq!(visits(&mut backlog), 0);
    assert!(!backlog.host.engine.consumers.flow().has_pulls());
}

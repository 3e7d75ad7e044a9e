//! A producer as fast as it can, with so many messages in flight.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::{
    cluster::Cluster,
    message::{Mark, Message},
    report::Report,
    watch::{Confirmations, Watch, now},
};

/// In flight where nobody waits for one of them.
pub(crate) const WINDOW_MESSAGES: usize = 20_000;
/// In flight where as many callers wait for one each: who has its confirmation sends the next at once.
pub(crate) const CALLERS: usize = 64;
/// Time before a measurement, for connections and buffers to grow.
const WARM_UP: Duration = Duration::from_millis(500);
/// Pause of a producer that has to wait: the client's own threads and the broker need the cores meanwhile, so it
/// reaches more than one that spins or yields.
const PAUSE: Duration = Duration::from_micros(20);
/// What is not confirmed in this time never will be.
const CONFIRM_WAIT: Duration = Duration::from_secs(10);

/// Measures one, as `load`, with so many messages in flight.
pub(crate) fn measure(
    cluster: &Cluster,
    topic: &str,
    size: usize,
    seconds: Duration,
    (load, in_flight): (&'static str, usize),
) -> anyhow::Result<Report> {
    let watch = Watch::new()?;
    let producer = cluster
        .producer_config()
        .create_with_context(Confirmations(Arc::clone(&watch)))
        .context("cannot make a producer")?;
    let mut flood = Flood {
        watch: Arc::clone(&watch),
        producer,
        topic,
        message: Message::new(size),
        sent: 0,
    };
    // Until the first is confirmed, the client may still be looking for the topic's broker.
    flood.send(now())?;
    flood.producer.flush(CONFIRM_WAIT)?;
    flood.send_for(WARM_UP, in_flight)?;
    let measured = watch.during(|| flood.send_for(seconds, in_flight))?;
    flood.producer.flush(CONFIRM_WAIT)?;
    let confirmed = watch.confirmed.load(Relaxed);
    Ok(Report {
        in_flight: Some(in_flight),
        published: flood.sent,
        confirmed,
        void: confirmed < flood.sent,
        ..Report::new(load, size, measured)
    })
}

/// A producer at work.
struct Flood<'a> {
    watch: Arc<Watch>,
    producer: BaseProducer<Confirmations>,
    topic: &'a str,
    message: Message,
    sent: u64,
}

impl Flood<'_> {
    fn send_for(&mut self, time: Duration, in_flight: usize) -> anyhow::Result<()> {
        let end = now() + time;
        loop {
            let at = now();
            if at >= end {
                return Ok(());
            }
            let done = self.watch.confirmed.load(Relaxed) + self.watch.failed.load(Relaxed);
            if self.sent - done >= in_flight as u64 {
                thread::sleep(PAUSE);
            }
            while self.sent - done < in_flight as u64 {
                self.send(at)?;
            }
            self.producer.poll(Duration::ZERO);
        }
    }

    fn send(&mut self, at: Instant) -> anyhow::Result<()> {
        let mark = Mark {
            sequence: self.sent,
            sent_micros: self.watch.micros_of(at),
        };
        let record = BaseRecord::<(), _>::to(self.topic)
            .partition(0)
            .payload(self.message.marked(mark));
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.sent += 1;
        Ok(())
    }
}

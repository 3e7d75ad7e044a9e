//! What the lines of a scenario file do. Messages have names; the harness reads the log, stores what is to be
//! stored, and gives streams room for frames, as the server would.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::host::Host;
use crate::{
    clock::Timestamp,
    engine::{
        chunk::Slot,
        dead_letter::Outcome,
        input::{ClientId, Config, ConsumerId, Demand, Input, LeaseId, OrderingKey},
        output::{DeadLetter, Output},
        retry::Backoff,
    },
};

const START: Timestamp = Timestamp::from_millis(1_000_000_000_000);

/// A running scenario.
pub(super) struct Scenario {
    host: Host,
    answers: Vec<String>,
    /// Set in front of answers while a command lets time pass.
    since: Option<Timestamp>,
    consumers: HashMap<String, ConsumerId>,
    consumer_names: HashMap<ConsumerId, String>,
    /// Streams that get no more room by themselves.
    fixed_room: Vec<ConsumerId>,
    names: BTreeMap<(u32, u64), String>,
    offsets: HashMap<String, (u32, u64)>,
    /// Ordering keys by name.
    keys: HashMap<String, u64>,
    /// Every delivery of a message, in order.
    leases: HashMap<String, Vec<LeaseId>>,
    unconfirmed: Vec<String>,
    reads_fail: bool,
    next_flush_fails: bool,
    /// Flushes stay on their way.
    flushes_wait: bool,
}

impl Scenario {
    pub(super) fn new() -> Self {
        let config = Config {
            ack_deadline_millis: 10_000,
            retention_millis: 600_000,
            exactly_once: false,
            retry: None,
            attempts_max: None,
            is_ordered: false,
        };
        Self {
            host: Host::new(START, config, 1),
            answers: Vec::new(),
            since: None,
            consumers: HashMap::new(),
            consumer_names: HashMap::new(),
            fixed_room: Vec::new(),
            names: BTreeMap::new(),
            offsets: HashMap::new(),
            keys: HashMap::new(),
            leases: HashMap::new(),
            unconfirmed: Vec::new(),
            reads_fail: false,
            next_flush_fails: false,
            flushes_wait: false,
        }
    }

    pub(super) fn take_answers(&mut self) -> Vec<String> {
        if self.answers.is_empty() {
            self.answers.push("nothing".to_owned());
        }
        std::mem::take(&mut self.answers)
    }

    pub(super) fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["config", ref settings @ ..] => self.configure(settings),
            ["publish", ref names @ ..] => self.publish(names),
            ["open", stream, ref settings @ ..] => self.open(stream, settings),
            ["room", stream, frames] => {
                let consumer = self.consumers[stream];
                let frames = number(frames) as u32;
                self.handle(Input::Room { consumer, frames });
            }
            ["pull", name, ref settings @ ..] => {
                let demand = Demand::Pull {
                    messages_max: setting(settings, "max").map_or(100, number) as usize,
                    immediate: settings.contains(&"immediate"),
                };
                self.consumer_comes(name, demand);
            }
            ["close", name] => {
                let consumer = self.consumers[name];
                self.handle(Input::Close { consumer });
            }
            ["ack", ref names @ ..] => {
                let leases = self.find_leases(names);
                for (name, _) in leases.iter().cloned() {
                    self.unconfirmed.push(name);
                }
                self.handle(Input::Ack(
                    leases.into_iter().map(|(_, lease)| lease).collect(),
                ));
            }
            ["judge", "ack", ref names @ ..] => {
                let leases = self.find_leases(names).into_iter();
                self.judge(names, Input::Ack(leases.map(|(_, lease)| lease).collect()));
            }
            ["judge", "nack", ref names @ ..] => {
                let changes = self.changes(names, 0);
                self.judge(names, Input::ModifyDeadline(changes));
            }
            ["judge", "modack", ref names @ .., time] => {
                let changes = self.changes(names, millis(time));
                self.judge(names, Input::ModifyDeadline(changes));
            }
            ["nack", ref names @ ..] => self.modify(names, 0),
            ["modack", ref names @ .., time] => self.modify(names, millis(time)),
            ["return", ref names @ ..] => {
                let leases = self.find_leases(names);
                let leases = leases.into_iter().map(|(_, lease)| lease).collect();
                self.handle(Input::Returned(leases));
            }
            ["wait", time] => self.wait(millis(time)),
            ["restart"] => {
                let out = self.host.flush_all();
                self.say(&out);
                self.restart();
            }
            ["crash"] => self.restart(),
            ["crash", "after", "flush"] => {
                self.host.store_flush();
                self.restart();
            }
            ["flush", "fails"] => self.next_flush_fails = true,
            ["flush", "waits"] => self.flushes_wait = true,
            ["flush", "ends"] => {
                self.flushes_wait = false;
                let out = self.end_flush();
                self.settle(out);
            }
            ["reads", "fail"] => self.reads_fail = true,
            ["reads", "work"] => self.reads_fail = false,
            ["damage", ref names @ ..] => {
                for (partition, offset) in self.positions(names) {
                    self.host.log.damage(partition, offset);
                }
            }
            ["repair"] => self.host.log.repair(),
            ["remove", ref names @ ..] => {
                for (partition, offset) in self.positions(names) {
                    self.host.log.remove(partition, offset);
                }
            }
            ["lose", "from", name] => {
                let (partition, end) = self.offsets[name];
                self.host.log.truncate(partition, end);
            }
            ["forwarded", ref names @ ..] => self.forwarded(names, Outcome::Done),
            ["refused", ref names @ ..] => self.forwarded(names, Outcome::Refused),
            ["not", "forwarded", ref names @ ..] => {
                let retry_at = self.host.now.plus_millis(1000);
                self.forwarded(names, Outcome::Failed { retry_at });
            }
            ["rows"] => self.show_rows(),
            ["leases"] => self.show_leases(),
            _ => panic!("no such command: {line}"),
        }
    }

    fn configure(&mut self, settings: &[&str]) {
        let config = &mut self.host.config;
        if let Some(time) = setting(settings, "ack-deadline") {
            config.ack_deadline_millis = millis(time);
        }
        if let Some(time) = setting(settings, "retention") {
            config.retention_millis = millis(time);
        }
        if let Some(word) = setting(settings, "exactly-once") {
            config.exactly_once = word == "yes";
        }
        if let Some(backoff) = setting(settings, "retry") {
            config.retry = backoff.split_once("..").map(|(min, max)| Backoff {
                min_millis: millis(min),
                max_millis: millis(max),
            });
        }
        if let Some(attempts) = setting(settings, "dead-letter") {
            config.attempts_max = attempts.parse().ok();
        }
        let config = *config;
        if setting(settings, "ordered").is_some_and(|word| word == "yes") {
            // Never changes while there is an engine.
            self.host.config.is_ordered = true;
            self.host.restart();
            return;
        }
        self.handle(Input::Configure(config));
    }

    /// `name`, `name:bytes`, or `gap` for an offset without a record. `key/name` has that ordering key.
    fn publish(&mut self, names: &[&str]) {
        for name in expand(names) {
            if name == "gap" {
                self.host.log.append_gap(0);
                continue;
            }
            let (name, bytes) = name.split_once(':').unwrap_or((&name, "1"));
            let body = Bytes::from(vec![0; number(bytes) as usize]);
            let key = name.split_once('/').map(|(key, _)| key);
            let key = key.map(|key| {
                let known = self.keys.len() as u64 + 1;
                OrderingKey::new(*self.keys.entry(key.to_owned()).or_insert(known))
            });
            let log = &mut self.host.log;
            let offset = log.append_of(0, self.host.now, body, |_| key);
            self.names.insert((0, offset), name.to_owned());
            self.offsets.insert(name.to_owned(), (0, offset));
        }
        let out = self.host.publish_is_seen();
        self.settle(out);
    }

    fn open(&mut self, stream: &str, settings: &[&str]) {
        let room = setting(settings, "room");
        let demand = Demand::Stream {
            ack_deadline_millis: setting(settings, "deadline").map_or(10_000, millis),
            messages_max: setting(settings, "messages").map_or(u64::MAX, number),
            bytes_max: setting(settings, "bytes").map_or(u64::MAX, number),
            frames: room.map_or(2, number) as u32,
        };
        if room.is_some() {
            self.fixed_room
                .push(ConsumerId(self.consumer_names.len() as u64 + 1));
        }
        if let Some(client) = setting(settings, "client") {
            let consumer = ConsumerId(self.consumer_names.len() as u64 + 1);
            let client = ClientId(number(client));
            self.handle(Input::Client { consumer, client });
        }
        self.consumer_comes(stream, demand);
    }

    fn consumer_comes(&mut self, name: &str, demand: Demand) {
        let consumer = ConsumerId(self.consumer_names.len() as u64 + 1);
        self.consumers.insert(name.to_owned(), consumer);
        self.consumer_names.insert(consumer, name.to_owned());
        self.handle(Input::Open { consumer, demand });
    }

    fn modify(&mut self, names: &[&str], millis: u64) {
        let changes = self.changes(names, millis);
        self.handle(Input::ModifyDeadline(changes));
    }

    fn changes(&self, names: &[&str], millis: u64) -> Vec<(LeaseId, u64)> {
        let leases = self.find_leases(names).into_iter();
        leases.map(|(_, lease)| (lease, millis)).collect()
    }

    fn forwarded(&mut self, names: &[&str], outcome: Outcome) {
        let positions = self.positions(names).into_iter();
        self.handle(Input::Forwarded {
            partition: 0,
            outcomes: positions.map(|(_, offset)| (offset, outcome)).collect(),
        });
    }

    /// Says of each id what it found; then what came of it.
    fn judge(&mut self, names: &[&str], input: Input) {
        let (out, verdicts) = self.host.handle_with_verdicts(input);
        for (name, verdict) in expand(names).iter().zip(verdicts) {
            self.answer(format!("{name}: {verdict:?}"));
        }
        self.settle(out);
    }

    fn wait(&mut self, millis: u64) {
        let until = self.host.now.plus_millis(millis);
        self.since = Some(self.host.now);
        while let Some(next) = self.host.engine.next_deadline() {
            if next > until {
                break;
            }
            self.host.now = self.host.now.max(next);
            self.handle(Input::Tick);
        }
        self.host.now = until;
        self.handle(Input::Tick);
        self.since = None;
    }

    fn restart(&mut self) {
        self.unconfirmed.clear();
        let voided = self.host.restart();
        if !voided.is_empty() {
            self.answer("the log lost its end: a new generation".to_owned());
        }
        self.handle(Input::Tick);
    }

    fn handle(&mut self, input: Input) {
        let out = self.host.handle(input);
        self.settle(out);
    }

    /// Does what a server does until nothing is left to do at this time.
    fn settle(&mut self, mut out: Vec<Output>) {
        let mut failed = false;
        loop {
            self.say(&out);
            let served: Vec<ConsumerId> = out
                .iter()
                .filter_map(|output| self.wants_room(output))
                .collect();
            out.clear();
            for consumer in served {
                out.extend(self.host.handle(Input::Room {
                    consumer,
                    frames: 2,
                }));
            }
            if !out.is_empty() {
                continue;
            }
            if !self.host.reads.is_empty() {
                out = self.host.answer_read(u64::MAX >> 1, self.reads_fail);
                continue;
            }
            if failed {
                return;
            }
            if self.host.start_flush(false) && !self.flushes_wait {
                failed = self.next_flush_fails;
                out = self.end_flush();
                continue;
            }
            if self.host.in_flight.is_some() {
                return;
            }
            if !self.unconfirmed.is_empty() {
                let names = std::mem::take(&mut self.unconfirmed);
                self.answer(format!("confirmed {}", listed(&names, "")));
            }
            return;
        }
    }

    fn end_flush(&mut self) -> Vec<Output> {
        let failed = std::mem::take(&mut self.next_flush_fails);
        if failed {
            self.answer("the flush failed".to_owned());
        }
        self.host.end_flush(!failed)
    }

    fn wants_room(&self, output: &Output) -> Option<ConsumerId> {
        match output {
            Output::Deliver { consumer, .. } if !self.fixed_room.contains(consumer) => {
                Some(*consumer)
            }
            _ => None,
        }
    }

    fn say(&mut self, out: &[Output]) {
        for output in out {
            match output {
                Output::Deliver {
                    consumer,
                    deliveries,
                    ..
                } => {
                    let mut got: Vec<(u32, Vec<String>)> = Vec::new();
                    for delivery in deliveries {
                        let lease = delivery.lease;
                        let is_shown = self.host.config.attempts_max.is_some();
                        assert_eq!(delivery.attempt > 0, is_shown);
                        let name = self.names[&(lease.partition, lease.offset)].clone();
                        self.leases.entry(name.clone()).or_default().push(lease);
                        match got.last_mut() {
                            Some((number, names)) if *number == lease.number => names.push(name),
                            _ => got.push((lease.number, vec![name])),
                        }
                    }
                    let got: Vec<String> = got
                        .iter()
                        .map(|(number, names)| listed(names, &format!("({number})")))
                        .collect();
                    let name = &self.consumer_names[consumer];
                    self.answer(format!("{name} gets {}", got.join(" ")));
                }
                Output::Empty { consumer, damaged } => {
                    let name = &self.consumer_names[consumer];
                    let why = if *damaged {
                        ", something is damaged"
                    } else {
                        ""
                    };
                    self.answer(format!("{name} gets nothing{why}"));
                }
                Output::Forward {
                    partition,
                    messages,
                    ..
                } => {
                    let alike = |a: &DeadLetter, b: &DeadLetter| a.attempts == b.attempts;
                    for alike in messages.chunk_by(alike) {
                        let offsets = alike.iter().map(|it| (*partition, it.offset));
                        let names: Vec<_> = offsets.map(|it| self.names[&it].clone()).collect();
                        let times = alike[0].attempts;
                        self.answer(format!(
                            "forward {} after {times} failures",
                            listed(&names, "")
                        ));
                    }
                }
                Output::Late { partition, offset } => {
                    let name = &self.names[&(*partition, *offset)];
                    self.answer(format!("{name} comes late"));
                }
                Output::Read { .. } => {}
            }
        }
    }

    fn show_rows(&mut self) {
        for state in self.host.stored.states() {
            self.answer(format!(
                "generation {}, everything below {} done",
                state.generation, state.cursor
            ));
            for chunk in state.chunks {
                self.answer(format!(
                    "chunk {}: {} bytes, {} done after it",
                    chunk.index,
                    chunk.body.len(),
                    chunk.done_after
                ));
            }
        }
    }

    fn show_leases(&mut self) {
        let mut lines = Vec::new();
        for partition in self.host.engine.partitions.iter() {
            for (offset, slot) in partition.ledger().slots(0..u64::MAX) {
                let name = &self.names[&(partition.id(), offset)];
                lines.push(match slot {
                    Slot::Leased(lease) => {
                        let left = shown(lease.time.millis_since(self.host.now));
                        let waits = if partition.ledger().waits_to_leave(offset) {
                            ", waits to leave"
                        } else {
                            ""
                        };
                        format!(
                            "{name}({}) for {left}, attempts failed: {}{waits}",
                            lease.number, lease.attempts
                        )
                    }
                    Slot::Failed(failed) | Slot::Waiting(failed) | Slot::Dead(failed) => format!(
                        "{name} awaits delivery {}, attempts failed: {}",
                        failed.number + 1,
                        failed.attempts
                    ),
                    Slot::Pending | Slot::Done => continue,
                });
            }
        }
        for line in lines {
            self.answer(line);
        }
    }

    fn answer(&mut self, what: String) {
        let after = self
            .since
            .map(|since| self.host.now.millis_since(since))
            .filter(|millis| *millis > 0);
        self.answers.push(match after {
            Some(millis) => format!("after {}: {what}", shown(millis)),
            None => what,
        });
    }

    fn positions(&self, names: &[&str]) -> Vec<(u32, u64)> {
        expand(names)
            .iter()
            .map(|name| self.offsets[name])
            .collect()
    }

    /// `a`: its last delivery; `a(2)`: the last one of that number; `a(2)@1`: of that generation.
    fn find_leases(&self, names: &[&str]) -> Vec<(String, LeaseId)> {
        let find = |text: &String| {
            let (text, generation) = match text.split_once('@') {
                Some((text, generation)) => (text, Some(number(generation) as u32)),
                None => (text.as_str(), None),
            };
            let (name, nth) = match text.trim_end_matches(')').split_once('(') {
                Some((name, nth)) => (name, Some(number(nth) as u32)),
                None => (text, None),
            };
            let fits = |lease: &&LeaseId| {
                nth.is_none_or(|nth| lease.number == nth)
                    && generation.is_none_or(|generation| lease.generation == generation)
            };
            let lease = self
                .leases
                .get(name)
                .and_then(|all| all.iter().rev().find(fits));
            (
                name.to_owned(),
                *lease.unwrap_or_else(|| panic!("{text} was never delivered")),
            )
        };
        expand(names).iter().map(find).collect()
    }
}

/// `m1..m3` stands for `m1 m2 m3`.
fn expand(names: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for name in names {
        match name.split_once("..") {
            Some((first, last)) => {
                let (stem, from) = numbered(first).expect("a numbered name");
                let (_, to) = numbered(last).expect("a numbered name");
                all.extend((from..=to).map(|n| format!("{stem}{n}")));
            }
            None => all.push((*name).to_owned()),
        }
    }
    all
}

/// Names with what belongs behind each, runs of numbered ones as a range.
fn listed(names: &[String], suffix: &str) -> String {
    let follows = |a: &String, b: &String| match (numbered(a), numbered(b)) {
        (Some((stem, n)), Some((other, m))) => stem == other && n + 1 == m,
        _ => false,
    };
    let runs: Vec<String> = names
        .chunk_by(follows)
        .map(|run| match run {
            [one] => format!("{one}{suffix}"),
            [first, .., last] => format!("{first}..{last}{suffix}"),
            [] => String::new(),
        })
        .collect();
    runs.join(" ")
}

fn numbered(name: &str) -> Option<(&str, u64)> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    Some((stem, name[stem.len()..].parse().ok()?))
}

fn setting<'a>(settings: &[&'a str], name: &str) -> Option<&'a str> {
    let value = |setting: &&'a str| setting.strip_prefix(name)?.strip_prefix('=');
    settings.iter().find_map(value)
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn millis(text: &str) -> u64 {
    if let Some(millis) = text.strip_suffix("ms") {
        return number(millis);
    }
    let (count, unit) = text.split_at(text.len() - 1);
    let (whole, part) = count.split_once('.').unwrap_or((count, ""));
    let millis = number(whole) * 1000 + number(&format!("{part:0<3}"));
    if unit == "m" { millis * 60 } else { millis }
}

fn shown(millis: u64) -> String {
    if millis < 1000 {
        format!("{millis}ms")
    } else if millis.is_multiple_of(1000) {
        format!("{}s", millis / 1000)
    } else {
        format!("{}.{:03}s", millis / 1000, millis % 1000)
    }
}

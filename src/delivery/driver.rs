//! The task of one subscription: waits until something happens, and has it done.
//!
//! Its order is: store, then speak. An ack is answered when the flush that holds it is durable.

use std::{iter, mem, sync::Arc};

use tokio::sync::{mpsc, watch};

use super::{
    command::Command,
    error::{DeliveryError, EndCause},
    host::{Event, Host},
    log_check::LogCheck,
    lost_logs,
    node::Node,
    ownership::{self, Hold, Owned},
    registry::Inbox,
    told::Subject,
};
use crate::{
    clock::Timestamp,
    engine::input::{Config, Input},
    limits::COMMANDS_PER_PASS_MAX,
    store::{StoreError, log::LogEnds, resources::SubscriptionRecord},
};

/// Runs until the subscription ends, nobody uses it, or the server stops.
pub(super) async fn run(node: Arc<Node>, record: Arc<SubscriptionRecord>, inbox: Inbox) {
    let id = record.id;
    let Inbox {
        mut commands,
        config,
    } = inbox;
    let error = match Driver::start(&node, &record, config).await {
        Ok(mut driver) => {
            if node.told.lock().works(id) {
                tracing::info!(subscription = %record.subscription.name, "delivery starts again");
            }
            let cause = driver.drive(&mut commands).await;
            driver.finish(&mut commands, cause.as_ref()).await;
            if cause == Some(EndCause::LogChanged) {
                // Logs it, if the log is gone, also when no client comes back.
                lost_logs::ask(&node, &record).await;
            }
            cause.unwrap_or(EndCause::Stopping).into()
        }
        Err(error) => {
            tell(&node, &record, &error);
            node.registry.forget(id, &mut commands);
            error
        }
    };
    while let Some(command) = commands.recv().await {
        command.refuse(&error);
    }
}

/// Logs why delivery did not start, once until it does, if that is for an operator to know.
fn tell(node: &Node, record: &SubscriptionRecord, error: &DeliveryError) {
    let subject = match error {
        DeliveryError::Store(error) => Subject::of(error, record.id),
        DeliveryError::Ended(EndCause::Damaged(_)) => Subject::Subscription(record.id),
        DeliveryError::Ended(_)
        | DeliveryError::OwnedBy(_)
        | DeliveryError::TooManyConsumers(_) => return,
    };
    if node.told.lock().fails(subject) {
        tracing::warn!(subscription = %record.subscription.name, %error, "delivery did not start");
    }
}

/// What ended a driver's wait.
enum Wake {
    Stopping,
    Host(Event),
    /// Commands are in the batch; none when nobody can send any more.
    Commands(usize),
    /// Nothing more is heard of where the log ends.
    LogClosed,
    /// Whether the log is what was read of it.
    LogCompared(Result<bool, StoreError>),
    /// Something that is taken in by itself, or the time.
    Other,
}

struct Driver {
    node: Arc<Node>,
    record: Arc<SubscriptionRecord>,
    hold: Hold,
    host: Host,
    config: watch::Receiver<Config>,
    /// Whether messages expire.
    expires: bool,
    ends: LogEnds,
    log_check: LogCheck,
    /// Commands that are being taken in, and those that were too many for one pass.
    batch: Vec<Command>,
}

impl Driver {
    async fn start(
        node: &Arc<Node>,
        record: &Arc<SubscriptionRecord>,
        config: watch::Receiver<Config>,
    ) -> Result<Self, DeliveryError> {
        let expires = node.agreement.holds(record.log.incarnation);
        let Owned {
            hold,
            epoch,
            engine,
            marks,
            ends,
        } = ownership::acquire(node, record, || effective(*config.borrow(), expires)).await?;
        Ok(Self {
            hold,
            host: Host::new(Arc::clone(node), Arc::clone(record), epoch, engine, marks),
            node: Arc::clone(node),
            record: Arc::clone(record),
            config,
            expires,
            ends,
            log_check: LogCheck::new(node.clock.now()),
            batch: Vec::new(),
        })
    }

    /// Returns why delivery ended; `None` when nobody uses it any more.
    async fn drive(&mut self, commands: &mut mpsc::Receiver<Command>) -> Option<EndCause> {
        loop {
            // Others may own the subscription by now, whatever was to be sent.
            if !self.node.membership.holds() {
                return Some(EndCause::lease_lost());
            }
            self.host.carry_out();
            let now = self.node.clock.now();
            self.host.start_flush(now);
            self.log_check
                .start(now, &self.node, &self.record, self.host.marks.as_mut());
            if self.host.is_unused(now) && self.node.registry.forget_idle(self.record.id, commands)
            {
                return None;
            }
            let wake = self.wait(now, commands).await;
            if let Some(cause) = self.judge_log(&wake).await {
                return Some(cause);
            }
            if let Some(cause) = self.take_in(wake, commands) {
                return Some(cause);
            }
        }
    }

    /// Returns a cause when the log is not what it was.
    async fn judge_log(&mut self, wake: &Wake) -> Option<EndCause> {
        match wake {
            Wake::LogClosed => {}
            Wake::LogCompared(is_same) => {
                let is_other = matches!(is_same, Ok(false));
                if let Some(marks) = &mut self.host.marks {
                    marks.ended_comparing(matches!(is_same, Ok(true)));
                }
                if !is_other {
                    return None;
                }
                tracing::warn!(
                    subscription = %self.record.subscription.name,
                    "the log has other records than were read of it: what is known of it is compared with it"
                );
                self.node.log.drop_buffered(&self.record.log).await;
            }
            _ => return None,
        }
        self.node.lost_logs.changed(self.record.id);
        Some(ownership::why_closed(&self.node, &self.record).await)
    }

    /// Waits until something has happened.
    async fn wait(&mut self, now: Timestamp, commands: &mut mpsc::Receiver<Command>) -> Wake {
        let compare_at = self.log_check.wake_at(self.host.marks.as_ref());
        let wake_at = self.host.wake_at(now);
        let wake_at = compare_at.map_or(wake_at, |at| wake_at.min(at));
        let is_next_pass = !self.batch.is_empty();
        tokio::select! {
            biased;
            () = self.node.stopping.cancelled() => Wake::Stopping,
            event = self.host.event() => Wake::Host(event),
            taken = commands.recv_many(&mut self.batch, COMMANDS_PER_PASS_MAX), if !is_next_pass => Wake::Commands(taken),
            waited = wait_for(&mut self.ends) => waited.map_or(Wake::LogClosed, |()| Wake::Other),
            Ok(()) = wait_for(&mut self.config) => Wake::Other,
            is_same = self.log_check.ended() => Wake::LogCompared(is_same),
            () = self.node.clock.sleep_until(wake_at) => Wake::Other,
            // Other tasks first.
            () = tokio::task::yield_now(), if is_next_pass => Wake::Other,
        }
    }

    /// Takes in everything that waits, whatever ended the wait: many requests keep nothing else out. Returns a cause
    /// when delivery ends.
    fn take_in(&mut self, wake: Wake, commands: &mut mpsc::Receiver<Command>) -> Option<EndCause> {
        let mut read = None;
        match wake {
            Wake::Stopping | Wake::Commands(0) => return Some(EndCause::Stopping),
            Wake::Host(Event::Flushed(flushed)) => {
                if let Some(cause) = self.host.flushed(flushed) {
                    return Some(cause);
                }
            }
            Wake::Host(Event::Read(ended)) => read = Some(ended),
            Wake::Host(Event::Forwarded(ended)) => self.host.forwarded(ended),
            Wake::Host(Event::Mail)
            | Wake::Commands(_)
            | Wake::LogClosed
            | Wake::LogCompared(_)
            | Wake::Other => {}
        }
        self.see_config();
        self.host.take_reads(read);
        self.host.read_mail();
        if self.ends.has_changed().unwrap_or(false) {
            let ends = self.ends.borrow_and_update().clone();
            self.host.handle(Input::LogEnds(ends));
        }
        while self.batch.len() < COMMANDS_PER_PASS_MAX
            && let Ok(command) = commands.try_recv()
        {
            self.batch.push(command);
        }
        if let Some(cause) = self.host.obey(&mut self.batch) {
            return Some(cause);
        }
        self.host.pass_time();
        None
    }

    /// Before what was read is judged by it.
    fn see_config(&mut self) {
        let expires = self.node.agreement.holds(self.record.log.incarnation);
        if self.config.has_changed().unwrap_or(false) || expires != self.expires {
            self.expires = expires;
            let config = effective(*self.config.borrow_and_update(), expires);
            self.host.configure(config);
        }
    }

    /// Ends what is open, and stores everything where the subscription is still ours.
    async fn finish(mut self, commands: &mut mpsc::Receiver<Command>, cause: Option<&EndCause>) {
        if let Some(cause) = cause {
            self.host.end_consumers(cause);
        }
        if let Some(cause @ (EndCause::Stopping | EndCause::LogChanged)) = cause {
            self.host.read_mail();
            commands.close();
            let left = mem::take(&mut self.batch).into_iter();
            for command in left.chain(iter::from_fn(|| commands.try_recv().ok())) {
                match command {
                    Command::Ack { .. } | Command::Modify { .. } => self.batch.push(command),
                    command => command.refuse(&cause.clone().into()),
                }
            }
            while !self.batch.is_empty() {
                self.host.obey(&mut self.batch);
            }
            self.host.end_forwards().await;
            self.host.flush_everything().await;
        }
        let error = cause.cloned().unwrap_or(EndCause::Stopping).into();
        self.batch
            .drain(..)
            .for_each(|command| command.refuse(&error));
        self.host.refuse_acks(cause);
        match cause {
            None => self.hold.release().await,
            Some(cause) => {
                self.node.registry.forget(self.record.id, commands);
                if matches!(cause, EndCause::Stopping | EndCause::TakenOver) {
                    self.hold.ends();
                }
            }
        }
    }
}

/// A configuration as the engine has it: nothing expires while clocks disagree by which that is judged.
fn effective(config: Config, expires: bool) -> Config {
    Config {
        retention_millis: if expires {
            config.retention_millis
        } else {
            u64::MAX
        },
        ..config
    }
}

/// Waits for a change, and leaves it to be taken in.
async fn wait_for<T>(watched: &mut watch::Receiver<T>) -> Result<(), watch::error::RecvError> {
    watched.changed().await?;
    watched.mark_changed();
    Ok(())
}

//! The drivers that run on this node, by subscription.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    command::Command,
    error::{DeliveryError, EndCause},
};
use crate::{engine::input::Config, limits::DRIVER_QUEUE_MAX, resource::id::SubscriptionId};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<BTreeMap<SubscriptionId, Running>>);

#[derive(Debug)]
struct Running {
    commands: mpsc::Sender<Command>,
    config: watch::Sender<Config>,
    /// Of the subscription that the configuration is of.
    version: u64,
}

/// What a new driver hears.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) config: watch::Receiver<Config>,
}

impl Registry {
    /// The way to the driver of a subscription, if one takes commands.
    pub(super) fn find(&self, id: SubscriptionId) -> Option<mpsc::Sender<Command>> {
        let running = self.0.lock();
        let running = running.get(&id)?;
        (!running.commands.is_closed()).then(|| running.commands.clone())
    }

    /// Whether a driver takes commands for a subscription.
    pub(super) fn is_running(&self, id: SubscriptionId) -> bool {
        self.find(id).is_some()
    }

    /// The way to the driver of a subscription. Where none takes commands, `start` starts one, with the configuration
    /// of the subscription's `version`.
    pub(super) fn find_or_start(
        &self,
        id: SubscriptionId,
        config: Config,
        version: u64,
        start: impl FnOnce(Inbox),
    ) -> mpsc::Sender<Command> {
        let mut running = self.0.lock();
        if let Some(driver) = running.get(&id)
            && !driver.commands.is_closed()
        {
            return driver.commands.clone();
        }
        let (commands, waiting) = mpsc::channel(DRIVER_QUEUE_MAX);
        let (sender, changes) = watch::channel(config);
        running.insert(
            id,
            Running {
                commands: commands.clone(),
                config: sender,
                version,
            },
        );
        start(Inbox {
            commands: waiting,
            config: changes,
        });
        commands
    }

    /// Forgets a driver, so that the next request starts another. Where it took no more commands before, that may have
    /// happened already, and the other one stays.
    pub(super) fn forget(&self, id: SubscriptionId, commands: &mut mpsc::Receiver<Command>) {
        let mut running = self.0.lock();
        commands.close();
        if running
            .get(&id)
            .is_some_and(|driver| driver.commands.is_closed())
        {
            running.remove(&id);
        }
    }

    /// Forgets a driver unless a caller has asked it for something meanwhile; then this returns false.
    pub(super) fn forget_idle(
        &self,
        id: SubscriptionId,
        commands: &mut mpsc::Receiver<Command>,
    ) -> bool {
        let mut running = self.0.lock();
        if !commands.is_empty() {
            return false;
        }
        commands.close();
        running.remove(&id);
        true
    }

    /// Ends a subscription's driver, if there is one.
    pub(super) async fn end(&self, id: SubscriptionId, cause: EndCause) {
        let (reply, done) = oneshot::channel();
        if let Some(commands) = self.find(id)
            && commands.send(Command::End { cause, reply }).await.is_ok()
        {
            // A driver that went away meanwhile has ended as well.
            drop(done.await);
        }
    }

    /// Ends all drivers.
    pub(super) async fn end_all(&self, cause: &EndCause) {
        let ids: Vec<_> = self.0.lock().keys().copied().collect();
        for id in ids {
            self.end(id, cause.clone()).await;
        }
    }

    /// Waits until a subscription's driver, if there is one, has applied its configuration.
    pub(super) async fn apply(&self, id: SubscriptionId) -> Result<(), DeliveryError> {
        let (reply, applied) = oneshot::channel();
        if let Some(commands) = self.find(id)
            && commands.send(Command::Apply { reply }).await.is_ok()
        {
            // A driver that went away meanwhile has nothing to apply any more.
            return applied.await.unwrap_or(Ok(()));
        }
        Ok(())
    }

    /// Gives the driver, if there is one, the configuration of a subscription's `version`, unless it has a newer one.
    pub(super) fn configure(&self, id: SubscriptionId, config: Config, version: u64) {
        if let Some(running) = self.0.lock().get_mut(&id)
            && running.version < version
        {
            running.version = version;
            running.config.send_replace(config);
        }
    }
}

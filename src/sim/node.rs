//! One life of a node: the service over its own view of the stores, and its heartbeat.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};

use super::{
    gate::Gate,
    log::NodeLog,
    ports::{Cluster, NodeMembership, NodePositions},
    world::World,
};
use crate::{
    clock::Clock,
    limits::{HEARTBEATS_PER_LEASE, NODE_LEASE_MILLIS},
    random::Random,
    service::Service,
    store::{NodeLease, StateStore, node_lease::NodeLeaseRenewer},
};

/// By how much a node's own lease is shorter than the one that others wait for, milliseconds.
const LEASE_MARGIN_MILLIS: u64 = 500;

/// See the module.
pub(super) struct Node {
    pub(super) service: Arc<Service>,
    pub(super) gate: Gate,
    life: u64,
}

impl Node {
    /// Starts the next life of a node.
    pub(super) fn start(world: &World, life: u64) -> Self {
        let gate = Gate::new(life, &world.dice, &world.trace, &world.judge);
        let (lease, renewer) = NodeLease::renewable(world.clock.clone());
        let (lost, applied) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let heart = Heart {
            clock: world.clock.clone(),
            cluster: Arc::clone(&world.cluster),
            gate: gate.clone(),
            life,
            renewer,
            lost: Arc::clone(&lost),
            applied: Arc::clone(&applied),
        };
        heart.renew();
        tokio::spawn(heart.beat());
        let positions = NodePositions {
            inner: Arc::clone(&world.state),
            cluster: Arc::clone(&world.cluster),
            life,
            gate: gate.clone(),
            clock: world.clock.clone(),
            judge: world.judge.clone(),
        };
        let store = StateStore {
            resources: world.state.clone(),
            records: world.state.clone(),
            positions: Arc::new(positions),
            membership: Arc::new(NodeMembership {
                lease,
                lost,
                applied,
            }),
            backend: world.state.clone(),
        };
        let log = NodeLog {
            shared: Arc::clone(&world.log),
            gate: gate.clone(),
        };
        let random = Random::seeded(life);
        let service = Service::start(store, Arc::new(log), world.clock.clone(), random);
        world.trace.note(format_args!("node {life} starts"));
        Self {
            service: Arc::new(service),
            gate,
            life,
        }
    }

    /// What a call of the node answers; `None` when it dies before.
    pub(super) async fn call<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.gate.gone() => None,
            answer = call => Some(answer),
        }
    }

    /// The node is dead, and its tasks end as far as they do not wait for a store.
    pub(super) fn bury(&self, cluster: &Mutex<Cluster>) {
        cluster.lock().bury(self.life);
        let service = Arc::clone(&self.service);
        tokio::spawn(async move { service.drain().await });
    }
}

/// Renews a node's lease.
struct Heart {
    clock: Clock,
    cluster: Arc<Mutex<Cluster>>,
    gate: Gate,
    life: u64,
    renewer: NodeLeaseRenewer,
    lost: Arc<Notify>,
    applied: Arc<Notify>,
}

impl Heart {
    fn renew(&self) {
        let until = self.clock.now().plus_millis(NODE_LEASE_MILLIS);
        self.cluster.lock().renew(self.life, until);
        let own = until.minus_millis(LEASE_MARGIN_MILLIS);
        self.renewer.renew(own, self.clock.reading());
    }

    async fn beat(self) {
        let pause = NODE_LEASE_MILLIS / u64::from(HEARTBEATS_PER_LEASE);
        let mut until = self.clock.now().plus_millis(NODE_LEASE_MILLIS);
        loop {
            sleep(Duration::from_millis(pause)).await;
            if self.gate.is_gone() {
                return;
            }
            if self.gate.is_cut() {
                continue;
            }
            if self.clock.now() >= until.minus_millis(LEASE_MARGIN_MILLIS) {
                // Others may have replaced it: it starts anew.
                self.lost.notify_one();
                self.applied.notified().await;
                self.cluster.lock().forget(self.life);
            }
            until = self.clock.now().plus_millis(NODE_LEASE_MILLIS);
            self.renew();
        }
    }
}

//! Whether this node and both of its backends answer, for a load balancer that decides where requests go.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use super::{Service, StoreError};
use crate::{
    clock::Timestamp,
    limits::{HEALTH_CHECK_MILLIS, HEALTH_VALID_MILLIS, HEALTH_WAIT_MILLIS_MAX},
    store::{MessageLog, StateBackend},
};

/// What was found, a moment ago at most.
#[derive(Clone, Debug)]
pub struct Health {
    /// Why this node does not answer for those that share its store; nothing if it does.
    pub node: Option<&'static str>,
    /// The backends.
    pub backends: Arc<Backends>,
}

/// Both backends.
#[derive(Debug)]
pub struct Backends {
    /// The log backend, which stores the messages.
    pub log: BackendHealth,
    /// The state backend, which stores everything else.
    pub store: BackendHealth,
}

/// Whether a backend answers.
#[derive(Debug)]
pub struct BackendHealth {
    /// What it is: `kafka`, `postgres`, `sqlite` or `memory`.
    pub backend: &'static str,
    /// Why it cannot be used now.
    pub failure: Option<String>,
    /// Why nothing can be added to it now, though it answers: it has no room.
    pub shortage: Option<String>,
}

impl Health {
    /// Whether everything that a request needs is there.
    pub fn is_good(&self) -> bool {
        let Backends { log, store } = &*self.backends;
        self.node.is_none() && log.failure.is_none() && store.failure.is_none()
    }
}

/// The result of a check and its time; nothing while the check runs.
type Finding = Option<(Timestamp, Arc<Backends>)>;

/// The last check of the backends. At most one runs, in a task of its own: a request that comes meanwhile waits for it,
/// and one that goes away does not end it.
#[derive(Debug, Default)]
pub(super) struct LastCheck(Mutex<Option<watch::Receiver<Finding>>>);

impl Service {
    /// Asks both backends, unless they were asked a moment ago. One that answers does not work all the same if the last
    /// operations that requests needed of it failed.
    pub async fn health(&self) -> Health {
        let backends = loop {
            // It ends without a finding only if its task does not run to its end; then there is a new one.
            if let Ok(found) = self.current_check().wait_for(Option::is_some).await
                && let Some((_, backends)) = &*found
            {
                break Arc::clone(backends);
            }
        };
        let node = if self.delivery.is_stopping() {
            Some("the server is stopping")
        } else if self.node_lease().holds() {
            None
        } else {
            Some("this node has lost its place among those that share its store")
        };
        Health { node, backends }
    }

    /// The last check, or a new one if that was too long ago.
    fn current_check(&self) -> watch::Receiver<Finding> {
        let mut last = self.last_check.0.lock();
        if let Some(check) = &*last {
            let is_new = match &*check.borrow() {
                Some((at, _)) => self.clock.now() < at.plus_millis(HEALTH_VALID_MILLIS),
                None => check.has_changed().is_ok(),
            };
            if is_new {
                return check.clone();
            }
        }
        let (found, check) = watch::channel(None);
        let (log, store) = (Arc::clone(&self.log), Arc::clone(&self.store.backend));
        let (operations, clock) = (Arc::clone(&self.operations), self.clock.clone());
        tokio::spawn(async move {
            let mut backends = check_backends(log.as_ref(), store.as_ref()).await;
            let Backends { log, store } = &mut backends;
            log.failure = log.failure.take().or_else(|| operations.log_failure());
            store.failure = store.failure.take().or_else(|| operations.state_failure());
            found.send_replace(Some((clock.now(), Arc::new(backends))));
        });
        *last = Some(check.clone());
        check
    }
}

async fn check_backends(log: &dyn MessageLog, store: &dyn StateBackend) -> Backends {
    let patience = Duration::from_millis(HEALTH_CHECK_MILLIS);
    let (log_failure, store_failure) =
        tokio::join!(sign(log.check(patience)), sign(store.check(patience)));
    Backends {
        log: BackendHealth {
            backend: log.backend(),
            failure: log_failure,
            shortage: log.shortage(),
        },
        store: BackendHealth {
            backend: store.backend(),
            failure: store_failure,
            shortage: store.shortage(),
        },
    }
}

/// Why there is no sign of life. The backend has a little less time to say so itself, as it knows more.
async fn sign(check: impl Future<Output = Result<(), StoreError>>) -> Option<String> {
    let patience = Duration::from_millis(HEALTH_WAIT_MILLIS_MAX);
    match timeout(patience, check).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {HEALTH_WAIT_MILLIS_MAX} ms")),
    }
}

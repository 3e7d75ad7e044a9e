//! What our clients tell beside their answers: log lines, and what is wrong with brokers and logins.

use std::{mem, sync::Arc};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode},
};

/// The last thing that a client complained about.
#[derive(Clone, Debug)]
pub(super) struct Complaint {
    pub(super) code: RDKafkaErrorCode,
    pub(super) text: String,
}

impl Complaint {
    /// Whether trying again is of no use: the login or the certificate was refused.
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self.code,
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::UnsupportedSASLMechanism
        )
    }
}

/// Listens to a client. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    client: &'static str,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Complaint>,
    /// Something has worked, and no complaint came since. At a start the complaint is in the error that it ends with.
    has_worked: bool,
    /// A login that was taken before, and has not been refused since. As above.
    login_works: bool,
}

impl Listener {
    /// For the client that is called so in log lines.
    pub(super) fn new(client: &'static str) -> Self {
        Self {
            client,
            state: Arc::default(),
        }
    }

    /// What it complained about last.
    pub(super) fn last(&self) -> Option<Complaint> {
        self.state.lock().last.clone()
    }

    /// Forgets it, because something has worked since.
    pub(super) fn forget(&self) {
        *self.state.lock() = State {
            has_worked: true,
            login_works: true,
            last: None,
        };
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        let client = self.client;
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", client, fac, "{log_message}");
            }
            // A broker that is away is in here once per attempt; who is kept waiting by it hears of it.
            _ => tracing::debug!(target: "librdkafka", client, fac, "{log_message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        let complaint = Complaint {
            code,
            text: reason.to_owned(),
        };
        let mut state = self.state.lock();
        let had_worked = mem::take(&mut state.has_worked);
        if complaint.is_final() && mem::take(&mut state.login_works) {
            // It may come after other complaints, as when brokers restart after a password was changed.
            tracing::error!(client = self.client, %code, "Kafka refuses the login or the certificate: {reason}");
        } else if had_worked {
            tracing::warn!(client = self.client, %code, "Kafka: {reason}");
        } else {
            tracing::debug!(target: "librdkafka", client = self.client, %code, "{reason}");
        }
        // That nobody can be reached says less than why.
        if code != RDKafkaErrorCode::AllBrokersDown || state.last.is_none() {
            state.last = Some(complaint);
        }
    }
}

impl ConsumerContext for Listener {}

//! What the server has to know of every RPC before its handler: one table, which the layers around the handlers, REST
//! and the code that decides what a caller may do read. What an RPC does is not here.

mod table;
#[cfg(test)]
mod tests;

use std::{array, collections::HashMap, sync::LazyLock};

pub use table::*;

use crate::auth::permission::{Need, Permission};

/// An RPC.
#[derive(Debug)]
pub struct Rpc {
    /// Where gRPC has it: `/google.pubsub.v1.Publisher/Publish`.
    pub path: &'static str,
    /// All that its caller has to be allowed, for each kind of resource that it may be about. Of health and
    /// reflection, nothing.
    pub needs: &'static [&'static [Need]],
    /// How many messages a request has.
    pub requests: Requests,
    /// The largest message of a request, bytes (docs/behaviour.md, section 1.4).
    pub message_bytes_max: usize,
    /// The largest body of a request over REST, bytes; `None` if REST does not have it.
    pub json_bytes_max: Option<usize>,
    /// What its answers are.
    pub answers: Answers,
    /// What happens to its calls while the node may not speak for the cluster.
    pub on_lost_lease: OnLostLease,
    /// What happens to its calls when connections close.
    pub on_closing: OnClosing,
    /// Whether every error has details, if only its code and its text again: clients take one without for a success
    /// (docs/behaviour.md, section 9).
    pub details_errors: bool,
}

/// How many messages a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// Exactly one.
    One,
    /// Any number.
    Stream,
}

/// What the answers of an RPC are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// One message.
    One,
    /// The page of a list, which may have megabytes.
    Page,
    /// Any number of messages, at any time.
    Stream,
}

/// What happens to calls while the node may not speak for the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLostLease {
    /// They are refused, also when the lease was lost before they were answered.
    Refused,
    /// Nothing: they ask about this server only.
    Answered,
}

/// What happens to calls when connections close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnClosing {
    /// They are waited for. The streams of subscribers are ended by the service, which knows what it still owes them.
    Awaited,
    /// They end, as they could go on for ever.
    Ended,
}

impl Rpc {
    /// The RPC at a path; where there is none, one without a path that has the usual limits.
    pub fn at(path: &str) -> &'static Self {
        static BY_PATH: LazyLock<HashMap<&str, &Rpc>> =
            LazyLock::new(|| RPCS.iter().map(|rpc| (rpc.path, rpc)).collect());
        match BY_PATH.get(path) {
            Some(rpc) => rpc,
            None if path.starts_with("/grpc.") => &table::UNSERVED_OF_SERVER,
            None => &table::UNSERVED,
        }
    }

    /// Whether it is none.
    pub const fn is_unserved(&self) -> bool {
        self.path.is_empty()
    }

    /// The full name of its service, and its own name.
    pub fn names(&self) -> (&'static str, &'static str) {
        let name = self.path.strip_prefix('/').unwrap_or(self.path);
        name.split_once('/').unwrap_or_default()
    }
}

/// How many entries a repeated field of a request has at most, by its full name; nothing of any other field.
pub fn entries_max(field: &str) -> Option<usize> {
    static BY_FIELD: LazyLock<HashMap<&str, usize>> =
        LazyLock::new(|| REPEATED.iter().copied().collect());
    BY_FIELD.get(field).copied()
}

/// All that a caller has to be allowed for an RPC, for one kind of resource: a permission for each of the `N` names
/// that its request gives.
#[derive(Debug)]
pub struct Needs<const N: usize> {
    path: &'static str,
    each: [Need; N],
}

impl<const N: usize> Needs<N> {
    /// The RPC's full name: `google.pubsub.v1.Publisher/Publish`.
    pub fn rpc(&self) -> &'static str {
        self.path.strip_prefix('/').unwrap_or(self.path)
    }

    /// The permissions, each with that on which it is needed: the request's name, or the project that it lies in.
    pub fn on<'a>(&self, names: [&'a str; N]) -> [(Permission, &'a str); N] {
        array::from_fn(|at| {
            let need = self.each[at];
            (need.permission, need.on.of(names[at]))
        })
    }
}

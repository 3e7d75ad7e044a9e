//! Hears at once what the heartbeats and the polling of the others would find a little later. Only ever a hint.

use std::{sync::Arc, time::Duration};

use sqlx::{
    Executor as _,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{database::within, membership::Member, pool::Pool};
use crate::limits::{LISTENER_CHECK_MILLIS, POSTGRES_CONNECT_MILLIS_MAX, POSTGRES_RETRY_MILLIS};

/// Listens until it is told to stop.
pub(super) async fn run(
    connect: PgConnectOptions,
    others: Pool,
    membership: Arc<Member>,
    applied: Arc<Notify>,
    stopping: CancellationToken,
) {
    while !stopping.is_cancelled() {
        if others.is_making_room() {
            sleep(Duration::from_millis(POSTGRES_RETRY_MILLIS)).await;
            continue;
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            Err(error) = listen(connect.clone(), &membership, &applied) => {
                tracing::debug!(%error, "listening to the database is interrupted");
                sleep(Duration::from_millis(POSTGRES_RETRY_MILLIS)).await;
            }
        }
    }
}

async fn listen(
    connect: PgConnectOptions,
    membership: &Member,
    applied: &Notify,
) -> Result<(), sqlx::Error> {
    let longest = Duration::from_millis(POSTGRES_CONNECT_MILLIS_MAX);
    // A new one each time: a listener gives its connection back in its own time, which may be for ever.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(connect);
    let mut listener = within(longest, PgListener::connect_with(&pool)).await?;
    listener.eager_reconnect(false);
    within(
        longest,
        listener.listen_all(["packetboat_changes", "packetboat_applied"]),
    )
    .await?;
    // What was notified before is found by reading.
    membership.news.notify_one();
    loop {
        let check = Duration::from_millis(LISTENER_CHECK_MILLIS);
        match timeout(check, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => match notification.channel() {
                "packetboat_changes" => membership.news.notify_one(),
                _ => applied.notify_waiters(),
            },
            Ok(Ok(None)) => return Err(sqlx::Error::PoolTimedOut),
            Ok(Err(error)) => return Err(error),
            // Silence may be a connection that is gone without a word.
            Err(_) => {
                within(longest, listener.execute("SELECT 1")).await?;
            }
        }
    }
}

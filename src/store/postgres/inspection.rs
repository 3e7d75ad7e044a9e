//! What a server and a database say about themselves, for an examination. Only reads, and registers as no node.

use sqlx::{Connection as _, PgConnection, Row as _};

use super::{
    Options, Refusal,
    connector::Connector,
    database::{Database, bounded},
    open, positions_read, schema, topics,
};
use crate::{
    clock::Timestamp,
    limits::OLD_TRANSACTION_SECONDS,
    store::{StoreError, positions::Furthest, resources::TopicRow, rows::from_sql},
};

/// A session that changes nothing. Each question takes no longer than an answer may.
pub(crate) struct Inspection {
    connection: PgConnection,
    connector: Connector,
    shown: String,
}

/// Of the server, the database and the user.
#[derive(Debug)]
pub(crate) struct Server {
    /// Postgres' number for it, such as 150004.
    pub(crate) version: i32,
    pub(crate) is_standby: bool,
    /// What a session of a node would find, for its user in this database.
    pub(crate) is_read_only: bool,
    /// For which standbys commits wait; empty if for none.
    pub(crate) standbys_awaited: String,
    /// Standbys that are connected.
    pub(crate) standbys: u32,
    pub(crate) fsync: String,
    pub(crate) full_page_writes: String,
    pub(crate) synchronous_commit: String,
    pub(crate) connections_max: u32,
    /// Connections in use that are not of our nodes.
    pub(crate) connections_of_others: u32,
    pub(crate) privileges: Privileges,
}

/// What the user may do.
#[derive(Clone, Debug)]
pub(crate) struct Privileges {
    /// Schema in which tables are made and found; none where no schema of the search path exists or may be used.
    pub(crate) schema: Option<String>,
    pub(crate) may_create: bool,
    /// Those of our tables that are there but may not be read and written.
    pub(crate) closed: Vec<String>,
    /// Those of our tables that are there and belong to another user.
    pub(crate) not_owned: Vec<String>,
}

/// The row of the store.
#[derive(Debug)]
pub(crate) struct StoreRow {
    pub(crate) version: i32,
    pub(crate) log_identity: String,
}

/// A node that lives.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: String,
    /// Until its lease runs out.
    pub(crate) millis_left: i64,
}

/// A transaction that has been open for long.
#[derive(Debug)]
pub(crate) struct OldTransaction {
    /// Process id and application, or the name of a prepared transaction.
    pub(crate) whose: String,
    pub(crate) seconds: i64,
}

/// Reads the rows of topics. The default has none, as where no tables are yet.
#[derive(Debug, Default)]
pub(crate) struct TopicRows {
    database: Option<Database>,
}

/// All of our tables.
const TABLES: [&str; 11] = [
    "packetboat",
    "topics",
    "subscriptions",
    "nodes",
    "owners",
    "positions",
    "chunks",
    "leftovers",
    "changes",
    "records",
    "retained",
];

impl Inspection {
    /// Connects as a node would. A server that is just starting is waited for.
    pub(crate) async fn connect(options: &Options) -> Result<Self, Refusal> {
        let connect = options.connect.clone();
        let connector = Connector::new(connect.application_name("packetboat doctor")).reading();
        Ok(Self {
            connection: open::connect(&connector).await?,
            connector,
            shown: options.shown.clone(),
        })
    }

    /// The server's clock.
    pub(crate) async fn time(&mut self) -> Result<Timestamp, Refusal> {
        Ok(bounded(time(&mut self.connection)).await?)
    }

    /// The server, the database and the user.
    pub(crate) async fn server(&mut self) -> Result<Server, Refusal> {
        Ok(bounded(Server::read(&mut self.connection)).await?)
    }

    /// Transactions that keep dead rows from being removed, the oldest first. Of other users' transactions the server
    /// tells only who may see them.
    pub(crate) async fn old_transactions(&mut self) -> Result<Vec<OldTransaction>, Refusal> {
        Ok(bounded(old_transactions(&mut self.connection)).await?)
    }

    /// Tables that have the names of ours, where the one that says whose they are is missing.
    pub(crate) async fn tables_of_others(&mut self) -> Result<Vec<String>, Refusal> {
        Ok(bounded(tables_of_others(&mut self.connection)).await?)
    }

    /// The row of the store, if the tables are there.
    pub(crate) async fn store(&mut self) -> Result<Option<StoreRow>, Refusal> {
        Ok(bounded(store(&mut self.connection)).await?)
    }

    /// The nodes whose lease has not run out.
    pub(crate) async fn nodes(&mut self) -> Result<Vec<Node>, Refusal> {
        Ok(bounded(nodes(&mut self.connection)).await?)
    }

    /// Reads the topics of a store whose tables this version knows.
    pub(crate) fn topics(&self) -> TopicRows {
        let database = Database::new(self.connector.clone(), &self.shown);
        TopicRows {
            database: Some(database),
        }
    }

    /// Ends the session.
    pub(crate) async fn close(self) {
        // The server ends it in any case.
        self.connection.close().await.ok();
    }
}

impl StoreRow {
    /// Whether this version knows the tables.
    pub(crate) const fn is_readable(&self) -> bool {
        self.version == schema::VERSION
    }
}

impl TopicRows {
    /// All rows, as they are now.
    pub(crate) async fn read(&self) -> Result<Vec<TopicRow>, StoreError> {
        match &self.database {
            Some(database) => topics::logs(database).await,
            None => Ok(Vec::new()),
        }
    }

    /// How far subscriptions have come, as it is now.
    pub(crate) async fn furthest(&self) -> Result<Vec<Furthest>, StoreError> {
        match &self.database {
            Some(database) => positions_read::furthest(database).await,
            None => Ok(Vec::new()),
        }
    }

    /// Closes the connection.
    pub(crate) async fn close(self) {
        if let Some(database) = self.database {
            database.close().await;
        }
    }
}

impl Server {
    async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let row = sqlx::query(
            "SELECT current_setting('server_version_num')::integer, pg_is_in_recovery(),
                current_setting('fsync'), current_setting('full_page_writes'),
                current_setting('synchronous_commit'),
                current_setting('max_connections')::bigint
                    - current_setting('superuser_reserved_connections')::bigint
                    - coalesce(current_setting('reserved_connections', true)::bigint, 0),
                (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
                    AND application_name NOT LIKE 'packetboat %' AND pid <> pg_backend_pid()),
                current_schema()::text,
                coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
                ARRAY(SELECT relname::text FROM pg_class
                    WHERE oid = ANY (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
                    AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                        AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))),
                ARRAY(SELECT relname::text FROM pg_class
                    WHERE oid = ANY (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
                    AND NOT pg_has_role(relowner, 'USAGE')),
                (SELECT reset_val = 'on' FROM pg_settings WHERE name = 'default_transaction_read_only'),
                current_setting('synchronous_standby_names'),
                (SELECT count(*) FROM pg_stat_replication)",
        )
        .bind(TABLES.as_slice())
        .fetch_one(connection)
        .await?;
        let count = |column: usize| {
            let count: i64 = row.try_get(column)?;
            Ok::<_, sqlx::Error>(u32::try_from(count).unwrap_or(0))
        };
        Ok(Self {
            version: row.try_get(0)?,
            is_standby: row.try_get(1)?,
            is_read_only: row.try_get(11)?,
            standbys_awaited: row.try_get(12)?,
            standbys: count(13)?,
            fsync: row.try_get(2)?,
            full_page_writes: row.try_get(3)?,
            synchronous_commit: row.try_get(4)?,
            connections_max: count(5)?,
            connections_of_others: count(6)?,
            privileges: Privileges {
                schema: row.try_get(7)?,
                may_create: row.try_get(8)?,
                closed: row.try_get(9)?,
                not_owned: row.try_get(10)?,
            },
        })
    }
}

async fn time(connection: &mut PgConnection) -> Result<Timestamp, sqlx::Error> {
    let millis: i64 =
        sqlx::query_scalar("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            .fetch_one(connection)
            .await?;
    Ok(Timestamp::from_millis(from_sql(millis)))
}

async fn old_transactions(
    connection: &mut PgConnection,
) -> Result<Vec<OldTransaction>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT whose, floor(extract(epoch FROM clock_timestamp() - since))::bigint FROM (
            SELECT format('process %s (%s)', pid, coalesce(nullif(application_name, ''), usename::text)) AS whose,
                xact_start AS since
            FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
            UNION ALL
            SELECT format('prepared transaction %s', gid), prepared FROM pg_prepared_xacts
            WHERE database = current_database()
        ) AS open WHERE since < clock_timestamp() - $1 * interval '1 second' ORDER BY since",
    )
    .bind(OLD_TRANSACTION_SECONDS)
    .fetch_all(connection)
    .await?;
    let rows = rows.iter().map(|row| {
        Ok(OldTransaction {
            whose: row.try_get(0)?,
            seconds: row.try_get(1)?,
        })
    });
    rows.collect()
}

async fn tables_of_others(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT name FROM unnest($1::text[]) AS name
        WHERE to_regclass('packetboat') IS NULL AND to_regclass(name) IS NOT NULL",
    )
    .bind(TABLES.as_slice())
    .fetch_all(connection)
    .await
}

async fn store(connection: &mut PgConnection) -> Result<Option<StoreRow>, sqlx::Error> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('packetboat') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(None);
    }
    let row = sqlx::query("SELECT version, log_identity FROM packetboat")
        .fetch_one(connection)
        .await?;
    Ok(Some(StoreRow {
        version: row.try_get(0)?,
        log_identity: row.try_get(1)?,
    }))
}

async fn nodes(connection: &mut PgConnection) -> Result<Vec<Node>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT name, address, ceil(extract(epoch FROM expires - clock_timestamp()) * 1000)::bigint FROM nodes
        WHERE expires > clock_timestamp() ORDER BY name",
    )
    .fetch_all(connection)
    .await?;
    let rows = rows.iter().map(|row| {
        Ok(Node {
            name: row.try_get(0)?,
            address: row.try_get(1)?,
            millis_left: row.try_get(2)?,
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_that_migrations_make() {
        let made: Vec<_> = schema::MIGRATIONS
            .iter()
            .flat_map(|migration| migration.lines())
            .filter_map(|line| line.strip_prefix("CREATE TABLE "))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(made, TABLES);
    }
}

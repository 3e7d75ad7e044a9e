-- Resources, and how far each subscription has come.

CREATE TABLE store (
    -- The log that all offsets here are of.
    log_id BLOB NOT NULL,
    ack_key BLOB NOT NULL
);

-- phase: 0 creating, 1 live, 2 deleted.
CREATE TABLE topics (
    incarnation INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    phase INTEGER NOT NULL,
    version INTEGER NOT NULL,
    config TEXT NOT NULL
);

CREATE UNIQUE INDEX topics_by_name ON topics (name) WHERE phase <> 2;

CREATE TABLE subscriptions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    topic INTEGER NOT NULL,
    detached INTEGER NOT NULL,
    version INTEGER NOT NULL,
    config TEXT NOT NULL
);

CREATE INDEX subscriptions_by_topic ON subscriptions (topic, name) WHERE detached = 0;

CREATE TABLE owners (
    subscription INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL
);

CREATE TABLE positions (
    subscription INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    -- Over the other columns: a flipped bit must not pass for messages that are done.
    crc32 INTEGER NOT NULL,
    PRIMARY KEY (subscription, partition)
) WITHOUT ROWID;

CREATE TABLE chunks (
    subscription INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    done_after INTEGER NOT NULL,
    body BLOB NOT NULL,
    -- Over the other columns.
    crc32 INTEGER NOT NULL,
    PRIMARY KEY (subscription, partition, generation, chunk)
) WITHOUT ROWID;

-- Deleted subscriptions whose chunks may still be there.
CREATE TABLE leftovers (
    subscription INTEGER PRIMARY KEY
);

PRAGMA application_id = 0x50425354;
PRAGMA user_version = 1;

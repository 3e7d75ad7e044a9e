-- The least data version that a process must have to carry out what a row configures.

ALTER TABLE topics ADD COLUMN needs INTEGER NOT NULL DEFAULT 1;
ALTER TABLE subscriptions ADD COLUMN needs INTEGER NOT NULL DEFAULT 1;

-- Documents of any kind.
CREATE TABLE records (
    kind TEXT NOT NULL,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    etag INTEGER NOT NULL,
    needs INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, project, name)
);

-- The etag that was given out last.
CREATE TABLE etags (last INTEGER NOT NULL);
INSERT INTO etags VALUES (0);

-- Rows of a subscription's state that outlive its cursor, until a time in milliseconds.
CREATE TABLE retained (
    subscription INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    key INTEGER NOT NULL,
    until INTEGER NOT NULL,
    body BLOB NOT NULL,
    -- Over the other columns.
    crc32 INTEGER NOT NULL,
    PRIMARY KEY (subscription, partition, generation, key)
) WITHOUT ROWID;

PRAGMA user_version = 3;

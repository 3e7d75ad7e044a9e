-- The least data version that a process must have to carry out what a row configures.
ALTER TABLE topics ADD COLUMN needs bigint NOT NULL DEFAULT 1;
ALTER TABLE subscriptions ADD COLUMN needs bigint NOT NULL DEFAULT 1;

-- The data version of the process.
ALTER TABLE nodes ADD COLUMN version bigint NOT NULL DEFAULT 1;

-- Documents of any kind. In changes, kind 4 is a document that was written or deleted.
CREATE TABLE records (
    kind text COLLATE "C" NOT NULL,
    project text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    etag bigint NOT NULL,
    needs bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (kind, project, name)
);

CREATE SEQUENCE etags;

-- Rows of a subscription's state that outlive its cursor, until a time in milliseconds.
CREATE TABLE retained (
    subscription bigint NOT NULL,
    partition bigint NOT NULL,
    generation bigint NOT NULL,
    key bigint NOT NULL,
    until bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (subscription, partition, generation, key)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);

-- Resources, how far each subscription has come, and which node delivers it.
-- Names compare by their bytes, so that lists have the order of every other backend.

CREATE TABLE packetboat (
    version integer NOT NULL,
    -- The log that all offsets here are of.
    log_identity text NOT NULL,
    ack_key bytea NOT NULL,
    -- Number of the latest row of changes. Whoever makes a change holds this row until it commits, so that changes
    -- become visible in the order of their numbers.
    last_change bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- phase: 0 creating, 1 live, 2 deleted.
CREATE TABLE topics (
    incarnation bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    phase smallint NOT NULL,
    version bigint NOT NULL,
    config text NOT NULL,
    -- Where its log lies; null until that is made.
    place text
);

CREATE UNIQUE INDEX topics_by_name ON topics (name) WHERE phase <> 2;

CREATE TABLE subscriptions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    topic bigint NOT NULL,
    detached boolean NOT NULL,
    version bigint NOT NULL,
    config text NOT NULL
);

CREATE INDEX subscriptions_by_topic ON subscriptions (topic, name) WHERE NOT detached;

-- One row per process that serves this store. Only its name is indexed, so that heartbeats are HOT updates.
CREATE TABLE nodes (
    name text COLLATE "C" PRIMARY KEY,
    -- Which process of that name: random, so that not even a restored backup brings one back.
    session bigint NOT NULL,
    address text NOT NULL,
    expires timestamptz NOT NULL,
    -- The latest change that it has heeded.
    seen bigint NOT NULL
) WITH (
    fillfactor = 10,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);

-- Who delivers a subscription: the session of a node, or nobody. Written only when that changes; a flush locks it.
CREATE TABLE owners (
    subscription bigint PRIMARY KEY,
    epoch bigint NOT NULL,
    session bigint
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);

CREATE TABLE positions (
    subscription bigint NOT NULL,
    partition bigint NOT NULL,
    generation bigint NOT NULL,
    cursor bigint NOT NULL,
    PRIMARY KEY (subscription, partition)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);

-- No index but the key, and half of each page free: rewriting a chunk touches no index.
CREATE TABLE chunks (
    subscription bigint NOT NULL,
    partition bigint NOT NULL,
    generation bigint NOT NULL,
    chunk bigint NOT NULL,
    done_after bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (subscription, partition, generation, chunk)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);

-- Subscriptions of which chunks may be left that belong to no position any more.
CREATE TABLE leftovers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription bigint NOT NULL
);

-- What the other nodes have to heed.
-- kind: 0 topic changed, 1 topic deleted, 2 subscription changed, 3 subscription deleted.
CREATE TABLE changes (
    number bigint PRIMARY KEY,
    made timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind smallint NOT NULL,
    subscription bigint,
    name text NOT NULL
);

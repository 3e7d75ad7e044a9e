-- Messages of all topics. One row of `batches` per run of neighbouring messages that were appended together.

CREATE TABLE store (
    log_id BLOB NOT NULL
);

-- One row per topic that has a log. `trimmed_end` and `trimmed_time` are the end of the log and its last publish
-- time as they were when its last batch was deleted: no offset is used twice.
CREATE TABLE logs (
    topic INTEGER PRIMARY KEY,
    trimmed_end INTEGER NOT NULL DEFAULT 0,
    trimmed_time INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    base INTEGER NOT NULL,
    count INTEGER NOT NULL,
    publish_time INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    -- Each message behind its length in four bytes, little endian.
    body BLOB NOT NULL
);

-- Has every column but the body, so that ends, times and what to delete are found without touching messages, and
-- what lies behind a damaged row without reading it.
CREATE INDEX batches_by_position ON batches (topic, partition, base, count, publish_time, bytes);

PRAGMA application_id = 0x50424c47;
PRAGMA user_version = 1;

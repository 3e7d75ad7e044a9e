-- The least data version that a process must have to carry out what a row configures.
ALTER TABLE topics ADD COLUMN needs bigint NOT NULL DEFAULT 1;
ALTER TABLE subscriptions ADD COLUMN needs bigint NOT NULL DEFAULT 1;

-- The data version of the process.
ALTER TABLE nodes ADD COLUMN version bigint NOT NULL DEFAULT 1;

-- The least data version that a process must have to carry out what a row configures.

ALTER TABLE topics ADD COLUMN needs INTEGER NOT NULL DEFAULT 1;
ALTER TABLE subscriptions ADD COLUMN needs INTEGER NOT NULL DEFAULT 1;

PRAGMA user_version = 3;

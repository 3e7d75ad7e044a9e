-- Where each topic's log lies, as JSON; null until it is made. Logs made before this version lie in the log's own file.

ALTER TABLE topics ADD COLUMN place TEXT;

UPDATE topics SET place = '{"name":"","key_partitions":1,"attached":false}' WHERE phase <> 0;

PRAGMA user_version = 2;


SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

CREATE TABLE public.changes (
    number bigint NOT NULL,
    made timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    kind smallint NOT NULL,
    subscription bigint,
    name text NOT NULL
);

CREATE TABLE public.chunks (
    subscription bigint NOT NULL,
    partition bigint NOT NULL,
    generation bigint NOT NULL,
    chunk bigint NOT NULL,
    done_after bigint NOT NULL,
    body bytea NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0', vacuum_truncate='false');

CREATE SEQUENCE public.etags
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.leftovers (
    id bigint NOT NULL,
    subscription bigint NOT NULL
);

ALTER TABLE public.leftovers ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.leftovers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.nodes (
    name text NOT NULL COLLATE pg_catalog."C",
    session bigint NOT NULL,
    address text NOT NULL,
    expires timestamp with time zone NOT NULL,
    seen bigint NOT NULL,
    version bigint DEFAULT 1 NOT NULL
)
WITH (fillfactor='10', autovacuum_vacuum_threshold='500', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_cost_delay='0', vacuum_truncate='false');

CREATE TABLE public.owners (
    subscription bigint NOT NULL,
    epoch bigint NOT NULL,
    session bigint
)
WITH (fillfactor='50', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0', vacuum_truncate='false');

CREATE TABLE public.packetboat (
    version integer NOT NULL,
    log_identity text NOT NULL,
    ack_key bytea NOT NULL,
    last_change bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.positions (
    subscription bigint NOT NULL,
    partition bigint NOT NULL,
    generation bigint NOT NULL,
    cursor bigint NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0', vacuum_truncate='false');

CREATE TABLE public.records (
    kind text NOT NULL COLLATE pg_catalog."C",
    project text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    etag bigint NOT NULL,
    needs bigint NOT NULL,
    body bytea NOT NULL
);

CREATE TABLE public.retained (
    subscription bigint NOT NULL,
    partition bigint NOT NULL,
    generation bigint NOT NULL,
    key bigint NOT NULL,
    until bigint NOT NULL,
    body bytea NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0', vacuum_truncate='false');

CREATE TABLE public.subscriptions (
    id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    topic bigint NOT NULL,
    detached boolean NOT NULL,
    version bigint NOT NULL,
    config text NOT NULL,
    needs bigint DEFAULT 1 NOT NULL
);

ALTER TABLE public.subscriptions ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.subscriptions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.topics (
    incarnation bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    phase smallint NOT NULL,
    version bigint NOT NULL,
    config text NOT NULL,
    place text,
    needs bigint DEFAULT 1 NOT NULL
);

ALTER TABLE public.topics ALTER COLUMN incarnation ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.topics_incarnation_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

INSERT INTO public.chunks VALUES (2, 0, 1, 0, 0, '\x0100280100010001000100010001000100010001000100010001000100010001');
INSERT INTO public.chunks VALUES (3, 0, 1, 0, 0, '\x0290e2f08b9d054c000100');
INSERT INTO public.chunks VALUES (6, 0, 1, 0, 0, '\x02998eed8b9d05f807bd04000500');

INSERT INTO public.nodes VALUES ('formats', 7301806611270085946, '127.0.0.1:28086', '2026-11-30 23:36:08.898474+00', 0, 2);

INSERT INTO public.owners VALUES (5, 0, NULL);
INSERT INTO public.owners VALUES (1, 1, 7301806611270085946);
INSERT INTO public.owners VALUES (2, 1, 7301806611270085946);
INSERT INTO public.owners VALUES (3, 1, 7301806611270085946);
INSERT INTO public.owners VALUES (4, 1, 7301806611270085946);
INSERT INTO public.owners VALUES (6, 1, 7301806611270085946);

INSERT INTO public.packetboat VALUES (2, 'sqlite:166d9d61efedf1f9305b94ce07106a3d', '\xdf0c11ed65b0ab84ce540b7400e75c9f', 0);

INSERT INTO public.positions VALUES (3, 0, 1, 0);
INSERT INTO public.positions VALUES (5, 0, 1, 0);
INSERT INTO public.positions VALUES (1, 0, 1, 10);
INSERT INTO public.positions VALUES (2, 0, 1, 10);
INSERT INTO public.positions VALUES (4, 0, 1, 10);
INSERT INTO public.positions VALUES (6, 0, 1, 128);

INSERT INTO public.retained VALUES (4, 0, 1, 0, 1796082370000, '\x011301ea03');

INSERT INTO public.subscriptions OVERRIDING SYSTEM VALUE VALUES (1, 'projects/format/subscriptions/ordered', 1, false, 1, '{"name":"projects/format/subscriptions/ordered","topic":"projects/format/topics/orders","ack_deadline_seconds":30,"message_retention":{"secs":604800,"nanos":0},"expiration":{"After":{"secs":2678400,"nanos":0}},"ordered":true,"labels":{},"detached":false}', 2);
INSERT INTO public.subscriptions OVERRIDING SYSTEM VALUE VALUES (2, 'projects/format/subscriptions/filtered', 1, false, 1, '{"name":"projects/format/subscriptions/filtered","topic":"projects/format/topics/orders","ack_deadline_seconds":30,"message_retention":{"secs":604800,"nanos":0},"expiration":{"After":{"secs":2678400,"nanos":0}},"labels":{},"filter":"attributes:even","detached":false}', 2);
INSERT INTO public.subscriptions OVERRIDING SYSTEM VALUE VALUES (3, 'projects/format/subscriptions/waiting', 1, false, 1, '{"name":"projects/format/subscriptions/waiting","topic":"projects/format/topics/orders","ack_deadline_seconds":30,"message_retention":{"secs":604800,"nanos":0},"expiration":{"After":{"secs":2678400,"nanos":0}},"labels":{},"retry_policy":{"minimum_backoff":{"secs":600,"nanos":0},"maximum_backoff":{"secs":600,"nanos":0}},"detached":false}', 2);
INSERT INTO public.subscriptions OVERRIDING SYSTEM VALUE VALUES (4, 'projects/format/subscriptions/once', 1, false, 1, '{"name":"projects/format/subscriptions/once","topic":"projects/format/topics/orders","ack_deadline_seconds":30,"message_retention":{"secs":604800,"nanos":0},"expiration":{"After":{"secs":2678400,"nanos":0}},"labels":{},"exactly_once":true,"detached":false}', 2);
INSERT INTO public.subscriptions OVERRIDING SYSTEM VALUE VALUES (5, 'projects/format/subscriptions/letters-worker', 2, false, 1, '{"name":"projects/format/subscriptions/letters-worker","topic":"projects/format/topics/letters","ack_deadline_seconds":30,"message_retention":{"secs":604800,"nanos":0},"expiration":{"After":{"secs":2678400,"nanos":0}},"labels":{},"detached":false}', 1);
INSERT INTO public.subscriptions OVERRIDING SYSTEM VALUE VALUES (6, 'projects/format/subscriptions/dying', 3, false, 1, '{"name":"projects/format/subscriptions/dying","topic":"projects/format/topics/doomed","ack_deadline_seconds":30,"message_retention":{"secs":604800,"nanos":0},"expiration":{"After":{"secs":2678400,"nanos":0}},"labels":{},"dead_letter_policy":{"topic":"projects/format/topics/letters","max_delivery_attempts":5},"detached":false}', 2);

INSERT INTO public.topics OVERRIDING SYSTEM VALUE VALUES (1, 'projects/format/topics/orders', 1, 1, '{"name":"projects/format/topics/orders","labels":{},"storage_policy":null,"kms_key_name":null}', '{"name":"","key_partitions":1,"attached":false}', 1);
INSERT INTO public.topics OVERRIDING SYSTEM VALUE VALUES (2, 'projects/format/topics/letters', 1, 1, '{"name":"projects/format/topics/letters","labels":{},"storage_policy":null,"kms_key_name":null}', '{"name":"","key_partitions":1,"attached":false}', 1);
INSERT INTO public.topics OVERRIDING SYSTEM VALUE VALUES (3, 'projects/format/topics/doomed', 1, 1, '{"name":"projects/format/topics/doomed","labels":{},"storage_policy":null,"kms_key_name":null}', '{"name":"","key_partitions":1,"attached":false}', 1);

SELECT pg_catalog.setval('public.etags', 1, false);

SELECT pg_catalog.setval('public.leftovers_id_seq', 1, false);

SELECT pg_catalog.setval('public.subscriptions_id_seq', 6, true);

SELECT pg_catalog.setval('public.topics_incarnation_seq', 3, true);

ALTER TABLE ONLY public.changes
    ADD CONSTRAINT changes_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.chunks
    ADD CONSTRAINT chunks_pkey PRIMARY KEY (subscription, partition, generation, chunk);

ALTER TABLE ONLY public.leftovers
    ADD CONSTRAINT leftovers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.owners
    ADD CONSTRAINT owners_pkey PRIMARY KEY (subscription);

ALTER TABLE ONLY public.positions
    ADD CONSTRAINT positions_pkey PRIMARY KEY (subscription, partition);

ALTER TABLE ONLY public.records
    ADD CONSTRAINT records_pkey PRIMARY KEY (kind, project, name);

ALTER TABLE ONLY public.retained
    ADD CONSTRAINT retained_pkey PRIMARY KEY (subscription, partition, generation, key);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_name_key UNIQUE (name);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.topics
    ADD CONSTRAINT topics_pkey PRIMARY KEY (incarnation);

CREATE INDEX subscriptions_by_topic ON public.subscriptions USING btree (topic, name) WHERE (NOT detached);

CREATE UNIQUE INDEX topics_by_name ON public.topics USING btree (name) WHERE (phase <> 2);


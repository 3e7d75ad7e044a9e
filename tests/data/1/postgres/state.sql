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
    seen bigint NOT NULL
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

CREATE TABLE public.subscriptions (
    id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    topic bigint NOT NULL,
    detached boolean NOT NULL,
    version bigint NOT NULL,
    config text NOT NULL
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
    place text
);

ALTER TABLE public.topics ALTER COLUMN incarnation ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.topics_incarnation_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

INSERT INTO public.changes VALUES (1, '2026-11-29 20:41:34.759408+00', 2, NULL, 'projects/format/subscriptions/detached');
INSERT INTO public.changes VALUES (2, '2026-11-29 20:41:34.764274+00', 3, 6, 'projects/format/subscriptions/deleted');
INSERT INTO public.changes VALUES (3, '2026-11-29 20:41:34.767669+00', 1, NULL, 'projects/format/topics/gone');
INSERT INTO public.changes VALUES (4, '2026-11-29 20:41:34.771561+00', 0, NULL, 'projects/format/topics/orders');
INSERT INTO public.changes VALUES (5, '2026-11-29 20:41:34.77441+00', 2, NULL, 'projects/format/subscriptions/half');
INSERT INTO public.changes VALUES (6, '2026-11-29 20:41:34.778338+00', 2, NULL, 'projects/format/subscriptions/fresh');

INSERT INTO public.chunks VALUES (2, 0, 1, 2, 0, '\x01b9869e879d05c101020001010102000101010200010101020001010102000101010200010101020001010102000101010200010101020001010102000101010200010101020001010102000101010200010101020001010102000101010200010101020001010102000101');
INSERT INTO public.chunks VALUES (2, 0, 1, 0, 1, '\x0183ef9d879d05000300010001030001000103000100010300010001030001000103000100010300010001030001000103000100010300010001030001000103000100010300010001030001000103000100010300010001030001000103000100010300010001030001000102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b61701010102b6170101');

INSERT INTO public.owners VALUES (1, 0, NULL);
INSERT INTO public.owners VALUES (4, 0, NULL);
INSERT INTO public.owners VALUES (2, 1, -8844422329965760315);
INSERT INTO public.owners VALUES (3, 1, -8844422329965760315);
INSERT INTO public.owners VALUES (5, 1, -8844422329965760315);

INSERT INTO public.packetboat VALUES (1, 'sqlite:40c6d3d1e9ecde1abe5fb46f88469cc1', '\x1eefa626557c0a4249330d05f50fef54', 6);

INSERT INTO public.positions VALUES (1, 0, 1, 0);
INSERT INTO public.positions VALUES (4, 0, 1, 0);
INSERT INTO public.positions VALUES (2, 0, 1, 1);
INSERT INTO public.positions VALUES (3, 0, 1, 600);
INSERT INTO public.positions VALUES (5, 0, 1, 4);

INSERT INTO public.subscriptions OVERRIDING SYSTEM VALUE VALUES (3, 'projects/format/subscriptions/done', 1, false, 1, '{"name":"projects/format/subscriptions/done","topic":"projects/format/topics/orders","ack_deadline_seconds":10,"message_retention":{"secs":1200,"nanos":0},"expiration":{"After":{"secs":2678400,"nanos":0}},"labels":{},"detached":false}');
INSERT INTO public.subscriptions OVERRIDING SYSTEM VALUE VALUES (5, 'projects/format/subscriptions/orphan', 2, false, 1, '{"name":"projects/format/subscriptions/orphan","topic":"projects/format/topics/gone","ack_deadline_seconds":10,"message_retention":{"secs":604800,"nanos":0},"expiration":"Never","labels":{},"detached":false}');
INSERT INTO public.subscriptions OVERRIDING SYSTEM VALUE VALUES (4, 'projects/format/subscriptions/detached', 1, true, 2, '{"name":"projects/format/subscriptions/detached","topic":"projects/format/topics/orders","ack_deadline_seconds":10,"message_retention":{"secs":604800,"nanos":0},"expiration":{"After":{"secs":2678400,"nanos":0}},"labels":{},"detached":true}');
INSERT INTO public.subscriptions OVERRIDING SYSTEM VALUE VALUES (2, 'projects/format/subscriptions/half', 1, false, 2, '{"name":"projects/format/subscriptions/half","topic":"projects/format/topics/orders","ack_deadline_seconds":30,"message_retention":{"secs":604800,"nanos":0},"expiration":{"After":{"secs":2678400,"nanos":0}},"labels":{"of":"half"},"detached":false,"policy":{"bindings":[{"role":"roles/pubsub.subscriber","members":["user:bob@example.com"]}],"etag":[186,136,32,49,174,174,134,50]}}');
INSERT INTO public.subscriptions OVERRIDING SYSTEM VALUE VALUES (1, 'projects/format/subscriptions/fresh', 1, false, 2, '{"name":"projects/format/subscriptions/fresh","topic":"projects/format/topics/orders","ack_deadline_seconds":42,"message_retention":{"secs":604800,"nanos":0},"expiration":{"After":{"secs":2678400,"nanos":0}},"labels":{},"detached":false}');

INSERT INTO public.topics OVERRIDING SYSTEM VALUE VALUES (3, 'projects/format/topics/attached-later', 1, 1, '{"name":"projects/format/topics/attached-later","labels":{},"storage_policy":null,"kms_key_name":null}', '{"name":"","key_partitions":1,"attached":false}');
INSERT INTO public.topics OVERRIDING SYSTEM VALUE VALUES (2, 'projects/format/topics/gone', 2, 1, '{"name":"projects/format/topics/gone","labels":{},"storage_policy":null,"kms_key_name":null}', '{"name":"","key_partitions":1,"attached":false}');
INSERT INTO public.topics OVERRIDING SYSTEM VALUE VALUES (1, 'projects/format/topics/orders', 1, 2, '{"name":"projects/format/topics/orders","labels":{"team":"blue"},"storage_policy":null,"kms_key_name":null,"policy":{"bindings":[{"role":"roles/pubsub.publisher","members":["user:ann@example.com"]}],"etag":[20,226,186,247,159,254,135,4]}}', '{"name":"","key_partitions":1,"attached":false}');

SELECT pg_catalog.setval('public.leftovers_id_seq', 1, true);

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

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_name_key UNIQUE (name);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.topics
    ADD CONSTRAINT topics_pkey PRIMARY KEY (incarnation);

CREATE INDEX subscriptions_by_topic ON public.subscriptions USING btree (topic, name) WHERE (NOT detached);

CREATE UNIQUE INDEX topics_by_name ON public.topics USING btree (name) WHERE (phase <> 2);

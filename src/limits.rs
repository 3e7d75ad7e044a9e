//! Every named maximum: of a request (the public limits of docs/behaviour.md, section 22), and of our own queues.

/// Largest encoded request of any RPC but Acknowledge and ModifyAckDeadline, bytes (section 3.1).
pub const REQUEST_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Largest encoded Acknowledge or ModifyAckDeadline request, bytes (section 1.4).
pub const ACK_REQUEST_BYTES_MAX: usize = 512 * 1024;
/// Largest encoded PublishRequest, bytes, topic name and framing included (section 3.1).
pub const PUBLISH_BYTES_MAX: usize = 10_000_000;
/// A request with so many times the entries that a repeated field may have is not decoded to say what else is wrong
/// with it (section 1.4).
pub const ENTRIES_TOLERANCE: usize = 4;
/// Fields of one request that are not repeated, or unknown.
pub const REQUEST_FIELDS_MAX: usize = 10_000;
/// How deep the messages of a request lie inside of each other, and groups of unknown fields; as the decoder has it.
pub const REQUEST_DEPTH_MAX: usize = 100;
/// Messages in one PublishRequest (section 3.1).
pub const PUBLISH_MESSAGES_MAX: usize = 1000;
/// Attributes of one message (section 3.1).
pub const ATTRIBUTES_MAX: usize = 100;
/// Bytes of an attribute key (section 3.1).
pub const ATTRIBUTE_KEY_BYTES_MAX: usize = 256;
/// Bytes of an attribute value (section 3.1).
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1024;
/// Bytes of an ordering key (section 3.1).
pub const ORDERING_KEY_BYTES_MAX: usize = 1024;

/// Shortest and longest id of a topic or subscription, characters (section 1.3).
pub const RESOURCE_ID_CHARS: std::ops::RangeInclusive<usize> = 3..=255;
/// Longest project segment of a name, bytes (section 1.3).
pub const PROJECT_BYTES_MAX: usize = 255;
/// Largest encoded request of an RPC that asks about the server itself, bytes: a name, of which little more comes back.
pub const QUESTION_BYTES_MAX: usize = 1024;
/// Ack ids in one request: those of 60 bytes that fill an Acknowledge. Ours are shorter; as many of them as are too large
/// for one are still counted by their bytes, see [`ENTRIES_TOLERANCE`].
pub const ACK_IDS_MAX: usize = ACK_REQUEST_BYTES_MAX / 60;
/// Ack ids that are taken in before other requests have their turn.
pub const ACK_IDS_AT_ONCE_MAX: usize = 1_000;
/// Paths of an update mask; the public service names no limit.
pub const MASK_PATHS_MAX: usize = 100;
/// Attributes of a push endpoint.
pub const PUSH_ATTRIBUTES_MAX: usize = 100;
/// Tags of one resource.
pub const TAGS_MAX: usize = 50;
/// Message transforms of one resource.
pub const TRANSFORMS_MAX: usize = 5;
/// Fields of a message that make a row's key in Bigtable.
pub const KEY_FIELDS_MAX: usize = 100;
/// Labels of one resource (section 1.7).
pub const LABELS_MAX: usize = 64;
/// Characters of a label's key or value (section 1.7).
pub const LABEL_CHARS_MAX: usize = 63;

/// Ack deadline of a subscription or stream, seconds (section 4.1).
pub const ACK_DEADLINE_SECONDS: std::ops::RangeInclusive<u32> = 10..=600;
/// Ack deadline of a subscription that names none, seconds (section 4.1).
pub const ACK_DEADLINE_SECONDS_DEFAULT: u32 = 10;
/// Message retention of a subscription or topic, seconds: 10 minutes to 31 days (section 4.1).
pub const RETENTION_SECONDS: std::ops::RangeInclusive<u64> = 600..=31 * 86_400;
/// Message retention of a subscription that names none, seconds: 7 days (section 4.1).
pub const RETENTION_SECONDS_DEFAULT: u64 = 7 * 86_400;
/// Shortest expiration ttl, seconds: 24 hours (section 4.1).
pub const EXPIRATION_SECONDS_MIN: u64 = 86_400;
/// Expiration ttl of a subscription that names none, seconds: 31 days (section 4.1).
pub const EXPIRATION_SECONDS_DEFAULT: u64 = 31 * 86_400;

/// Bytes of a subscription's filter (section 12.1).
pub const FILTER_BYTES_MAX: usize = 256;
/// Delivery attempts before a message is forwarded to a dead letter topic (section 4.1).
pub const DELIVERY_ATTEMPTS: std::ops::RangeInclusive<u32> = 5..=100;
/// The same where the policy does not say.
pub const DELIVERY_ATTEMPTS_DEFAULT: u32 = 5;
/// Longest backoff of a retry policy, seconds (section 4.1).
pub const BACKOFF_SECONDS_MAX: u64 = 600;
/// Minimum backoff of a retry policy that names none, seconds (section 4.1).
pub const BACKOFF_SECONDS_MIN_DEFAULT: u64 = 10;
/// Regions in one storage policy; the public service names no limit, a stored row needs one.
pub const STORAGE_REGIONS_MAX: usize = 100;
/// Bytes of a region's name.
pub const STORAGE_REGION_BYTES_MAX: usize = 255;
/// Bytes of the name of a KMS key.
pub const KMS_KEY_NAME_BYTES_MAX: usize = 1024;
/// Bytes of an error's text. Clients refuse trailers of 8 KiB and more, and a character may take three bytes there.
pub const STATUS_TEXT_BYTES_MAX: usize = 2048;
/// How often an update that others overtake is repeated.
pub const UPDATE_ATTEMPTS_MAX: usize = 20;

/// Entries of one page of a list (section 1.5).
pub const PAGE_SIZE_MAX: usize = 1000;
/// Bytes of the entries of one page, unless one alone is larger: as [`DELIVERY_BYTES_MAX`].
pub const PAGE_BYTES_MAX: usize = DELIVERY_BYTES_MAX;
/// Entries of a page when the request names no size (section 1.5).
pub const PAGE_SIZE_DEFAULT: usize = 100;

/// Messages in one Pull response or stream frame (section 6).
pub const DELIVERY_MESSAGES_MAX: usize = 1000;
/// Bytes of one Pull response or stream frame, unless one message alone is larger: under gRPC's default receive
/// limit of 4 MiB, which Python's emulator channel keeps (section 21).
pub const DELIVERY_BYTES_MAX: usize = 4 * 1024 * 1024 - 128 * 1024;
/// Longest wait of a Pull that finds nothing, milliseconds (section 6).
pub const PULL_WAIT_MILLIS_MAX: u64 = 20_000;
/// How long before the client's own deadline such a Pull answers, milliseconds (section 6); half of a timeout that is
/// hardly longer.
pub const PULL_DEADLINE_MARGIN_MILLIS: u64 = 500;

/// Longest wait for a backend's sign of life when a client asks for the server's health, milliseconds: less than the
/// second that Kubernetes gives a probe.
pub const HEALTH_WAIT_MILLIS_MAX: u64 = 900;
/// How much of that the backend has, so that it can still say what is wrong, milliseconds.
pub const HEALTH_CHECK_MILLIS: u64 = 800;
/// How long what was found then is told to those who ask next, milliseconds.
pub const HEALTH_VALID_MILLIS: u64 = 1_000;
/// How many operations of a kind have to fail one after another for a store to count as failing in health checks.
pub const HEALTH_FAILURES: u32 = 3;
/// How long they count then, milliseconds: a node that gets no requests for its health must get some again.
pub const HEALTH_FAILED_MILLIS: u64 = 30_000;
/// How long no operation of a kind may fail for an outage to have ended, and how often another cause of it is logged at
/// most, milliseconds.
pub const OUTAGE_SETTLED_MILLIS: u64 = 10_000;

/// Offsets in one stored chunk of a subscription's state.
pub const CHUNK_OFFSETS: u64 = 256;
/// Outstanding messages of one subscription; more are delivered when some of these end.
pub const OUTSTANDING_MAX: usize = 500_000;
/// Bytes and messages of one partition that were never delivered and are read ahead of a subscription's consumers.
pub const PREFETCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// See [`PREFETCH_BYTES_MAX`].
pub const PREFETCH_MESSAGES_MAX: usize = 4000;
/// Bytes and messages of the first read for consumers that take less; each further one, while somebody wants more, may
/// be twice as large.
pub const READ_AHEAD_BYTES_MIN: usize = 64 * 1024;
/// See [`READ_AHEAD_BYTES_MIN`].
pub const READ_AHEAD_MESSAGES_MIN: usize = 1000;
/// Bytes that a message is taken to have while nothing is known of those of its partition.
pub const MESSAGE_BYTES_ASSUMED: u64 = 4 * 1024;
/// Milliseconds after which messages that were read for consumers who no longer take any are dropped.
pub const UNWANTED_MILLIS: u64 = 1000;
/// Bytes and messages of one partition that are read again because their delivery failed, beside those.
pub const REDELIVERY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// See [`REDELIVERY_BYTES_MAX`].
pub const REDELIVERY_MESSAGES_MAX: usize = 2000;
/// Messages of one ordering key that are read before they can be delivered; behind them the log is read again later.
pub const KEY_WAITING_MAX: usize = 10_000;
/// The same of all ordering keys of a subscription.
pub const ORDERED_WAITING_MAX: usize = 500_000;
/// Bytes of messages that all subscriptions of a node hold until connections have sent them; reads wait for room.
pub const DELIVERY_BYTES_HELD_MAX: usize = 256 * 1024 * 1024;
/// Frames that wait in one stream for its connection to take them.
pub const STREAM_FRAMES_MAX: usize = 2;
/// Ack ids of one stream that await their confirmation, unless one request has more: further ones are to be sent again.
pub const STREAM_UNCONFIRMED_MAX: usize = 32_768;
/// Answers that wait in one stream for its connection to take them.
pub const STREAM_EVENTS_MAX: usize = 4;
/// Consumers (open streams and waiting pulls) of one subscription.
pub const CONSUMERS_MAX: usize = 10_000;
/// Requests that wait for one subscription's driver.
pub const DRIVER_QUEUE_MAX: usize = 1024;
/// Milliseconds for which a change of leases may wait before it is stored.
pub const LEASE_FLUSH_MILLIS: u64 = 100;
/// Milliseconds for which what was merely skipped (filtered, expired, compacted) may wait before it is stored.
pub const SKIP_FLUSH_MILLIS: u64 = 1000;
/// Milliseconds after which a Pull that wants an answer at once gets an empty one while everything that is read for it is
/// skipped (filtered, expired, compacted).
pub const PULL_SKIP_MILLIS: u64 = 1000;
/// Dead letters of one subscription that are being forwarded at a time.
pub const FORWARDS_MAX: usize = 256;
/// The same of one partition; they are read and published together.
pub const FORWARDS_PER_PARTITION_MAX: usize = 64;
/// Batches of dead letters of all subscriptions that are being forwarded at a time.
pub const FORWARD_BATCHES_MAX: usize = 16;
/// About how many bytes of them are read and published at a time; at least one message.
pub const FORWARD_BYTES: usize = 256 * 1024;
/// Dead letters that lie farther apart than so many offsets are read one by one.
pub const FORWARD_GAP_MAX: u64 = 32;
/// Milliseconds before a dead letter is forwarded again of which it is not known whether it was.
pub const FORWARD_RETRY_MILLIS: u64 = 1000;
/// Milliseconds for which a dead letter topic counts as missing without being looked up.
pub const FORWARD_LOOKUP_MILLIS: u64 = 1000;
/// Milliseconds for which a driver that ends waits for the dead letters that it is forwarding.
pub const FORWARD_END_MILLIS: u64 = 2000;
/// Dead letters that were published and are not acknowledged durably, as far as a node remembers them for the next
/// driver of their subscription.
pub const FORWARDED_MAX: usize = 10_000;
/// Milliseconds between two checks whether a node has come or gone, whose subscriptions may have dead letters.
pub const RESUME_MILLIS: u64 = 2000;
/// Milliseconds for which they are searched for then: longer than it takes until others may take over from it.
pub const RESUME_AGAIN_MILLIS: u64 = 20_000;
/// Subscriptions that one query finds then.
pub const RESUME_PAGE: usize = 500;
/// Subscriptions that are taken over at a time then.
pub const RESUME_SUBSCRIPTIONS_MAX: usize = 8;
/// Milliseconds for which the repeat of an ack succeeds under exactly-once delivery (section 9), and steps in which that
/// is counted.
pub const CONFIRMED_MILLIS: u64 = 10 * 60 * 1000;
/// See [`CONFIRMED_MILLIS`].
pub const CONFIRMED_STEP_MILLIS: u64 = 10_000;
/// Bytes that one subscription takes for it, in memory and in the store; beyond them the oldest are forgotten early.
pub const CONFIRMED_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Chunks of what was forgotten that one flush removes from the store.
pub const CONFIRMED_RELEASED_MAX: usize = 1024;
/// Milliseconds before a failed read of the log is tried again.
pub const READ_RETRY_MILLIS: u64 = 1000;
/// Milliseconds before a damaged part of the log is tried again.
pub const DAMAGE_RETRY_MILLIS: u64 = 30_000;
/// Least milliseconds between the starts of two flushes.
pub const FLUSH_INTERVAL_MILLIS: u64 = 5;
/// Milliseconds after which a driver that nobody uses gives its subscription up.
pub const DRIVER_IDLE_MILLIS: u64 = 10_000;

/// Topics, and subscriptions, that are cached in memory by name.
pub const CACHED_RESOURCES_MAX: usize = 50_000;
/// Requests that one subscription's driver takes in before it acts on them.
pub const COMMANDS_PER_PASS_MAX: usize = 256;
/// Leases that such requests are about before it acts on them; one request may have more.
pub const LEASES_PER_PASS_MAX: usize = 32_768;
/// Partitions of a subscription that are compared with its log at the same time.
pub const COMPARED_PARTITIONS_MAX: usize = 4;
/// Milliseconds between two comparisons of a log with what a subscription in use has read of it, if anything was read.
pub const LOG_CHECK_MILLIS: u64 = 30_000;
/// Subscriptions whose changes one flush writes.
pub const FLUSH_SUBSCRIPTIONS_MAX: usize = 1024;
/// Milliseconds before a flush is tried again whose rows another transaction held.
pub const BUSY_RETRY_MILLIS: u64 = 20;
/// Failures of subscriptions that are remembered so that they are logged once.
pub const FAILURES_TOLD_MAX: usize = 10_000;
/// Milliseconds before a failed flush is tried again.
pub const STORE_RETRY_MILLIS: u64 = 1000;

/// Milliseconds between two checks by retention of the topics to which something happened.
pub const RETENTION_SWEEP_MILLIS: u64 = 250;
/// Milliseconds between two checks by retention of every topic.
pub const RETENTION_SWEEP_ALL_MILLIS: u64 = 10 * 60 * 1000;
/// Bytes appended to a topic, or acknowledged of it, after which retention checks it at once.
pub const RETENTION_BYTES: u64 = 16 * 1024 * 1024;
/// Ranges of a topic's offsets in which messages were acknowledged, as retention remembers them; the nearest become one.
pub const RETENTION_RANGES_MAX: usize = 64;
/// Chunks of subscriptions' states that retention reads at once, or one of each subscription.
pub const RETENTION_CHUNKS_MAX: usize = 128;
/// Bytes of a topic's log that are read at once to find what the filters of idle subscriptions leave out.
pub const SKIM_READ_BYTES: usize = 1024 * 1024;
/// Bytes that are read at most before what was found in them is stored.
pub const SKIM_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Ranges that are found at most before they are stored.
pub const SKIM_RANGES_MAX: usize = 100_000;
/// What is found is stored once a subscription's log has grown by one part in so many of what lies above its cursor.
pub const SKIM_PARTS_MIN: u64 = 4;
/// Idle subscriptions that are owned at once to store what their filters leave out.
pub const SKIM_SUBSCRIPTIONS_MAX: usize = 16;
/// Milliseconds after which retention checks a topic to which anything happened.
pub const RETENTION_MILLIS_MAX: u64 = 30_000;

/// Bytes of the disk that stay free for acknowledging and deleting when it is full otherwise: at least, and at most.
pub const DISK_RESERVE_BYTES: std::ops::RangeInclusive<u64> = 16 * 1024 * 1024..=256 * 1024 * 1024;
/// Between these, one part in so many of the disk.
pub const DISK_RESERVE_SHARE: u64 = 8;
/// A write-ahead log may take one part in so many of the reserve.
pub const DISK_RESERVE_WAL_SHARE: u64 = 4;

/// Subscriptions of which one commit of the embedded store raises the epochs.
pub const TAKE_OVERS_PER_COMMIT_MAX: usize = 1024;
/// Publish requests that wait for the log's writer.
pub const APPEND_QUEUE_MAX: usize = 4096;
/// Bytes of one stored batch; requests that arrive together share one up to this size.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of appended requests that one commit takes.
pub const COMMIT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of recently appended batches cached in memory for readers at the head of their topics, all topics together.
pub const TAIL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of messages that the memory backend holds; past it Publish answers RESOURCE_EXHAUSTED.
pub const MEMORY_LOG_BYTES_MAX: usize = 4 * 1024 * 1024 * 1024;
/// Connections that read the log's file at the same time.
pub const LOG_READERS_MAX: u32 = 4;
/// Connections that read the state's file at the same time.
pub const STATE_READERS_MAX: u32 = 2;

/// Copies of partitions on one broker above which an examination warns: 10,000 topics with three copies on three brokers.
pub const KAFKA_BROKER_REPLICAS_MAX: usize = 10_000;
/// Partitions of the topic that an examination makes: one for each broker, up to this.
pub const KAFKA_PROBE_PARTITIONS_MAX: usize = 16;
/// Milliseconds that a broker has to let a record's timestamp differ from its clock, below which an examination warns.
pub const KAFKA_TIMESTAMP_MILLIS_MIN: u64 = 300_000;
/// Milliseconds by which a service's clock may differ from ours before an examination warns.
pub const CLOCK_WARNING_MILLIS: u64 = 1_000;
/// Milliseconds by which it may differ before that is a problem, and by which the clocks of a node, its database and
/// a broker may differ for messages to expire.
pub const CLOCK_PROBLEM_MILLIS: u64 = 60_000;
/// Milliseconds by which a machine's clocks may differ in what they count for its node to be sure of its lease.
pub const CLOCK_GAP_MILLIS_MAX: u64 = 500;
/// Milliseconds within which a database has to answer for its clock to be taken from the answer.
pub const TIME_ANSWER_MILLIS_MAX: u64 = 500;
/// Topics with brokers whose clocks are off that are known one by one; with as many, nothing expires in any topic.
pub const BROKER_CLOCKS_OFF_MAX: usize = 10_000;
/// Oldest major version of Postgres that is used.
pub const POSTGRES_VERSION_MIN: i32 = 15;
/// Milliseconds within which a database has to be reached at start.
pub const OPEN_MILLIS_MAX: u64 = 8_000;
/// Seconds that a start waits for tables that another process brings up to date.
pub const MIGRATION_WAIT_SECONDS_MAX: u64 = 15 * 60;
/// Milliseconds before such a start checks again.
pub const MIGRATION_POLL_MILLIS: u64 = 100;
/// Milliseconds after which it says that it still waits.
pub const MIGRATION_TELL_MILLIS: u64 = 3_000;
/// Connections of one node to Postgres, beside one for flushes, one for heartbeats and one that listens.
pub const POSTGRES_CONNECTIONS_MAX: u32 = 8;
/// Connections of one node to Postgres in all.
pub const POSTGRES_NODE_CONNECTIONS_MAX: u32 = POSTGRES_CONNECTIONS_MAX + 3;
/// Seconds for which a transaction in Postgres may be open before an examination warns.
pub const OLD_TRANSACTION_SECONDS: i64 = 5 * 60;
/// Seconds for which such a connection may be idle before it is closed.
pub const POSTGRES_IDLE_SECONDS_MAX: u64 = 60;
/// Seconds after which such a connection is replaced, however much it is used.
pub const POSTGRES_LIFETIME_SECONDS_MAX: u64 = 30 * 60;
/// Milliseconds that anybody waits for a connection to Postgres.
pub const POSTGRES_CONNECT_MILLIS_MAX: u64 = 2_000;
/// Milliseconds that an idle connection to Postgres has to show that its server still takes writes; otherwise there is
/// a new one.
pub const POSTGRES_PING_MILLIS: u64 = 500;
/// Milliseconds after its last use for which a connection for flushes or heartbeats is used without being asked first.
pub const POSTGRES_TRUSTED_MILLIS: u64 = 500;
/// Milliseconds before Postgres is tried again after a failure.
pub const POSTGRES_RETRY_MILLIS: u64 = 200;
/// Milliseconds that one statement may take in Postgres.
pub const POSTGRES_STATEMENT_MILLIS: u64 = 4_000;
/// Milliseconds that anybody waits for the answer to a transaction.
pub const POSTGRES_ANSWER_MILLIS_MAX: u64 = 5_000;
/// Milliseconds that a statement waits for a lock that another one holds.
pub const POSTGRES_LOCK_MILLIS: u64 = 1_000;
/// Milliseconds after which Postgres ends a transaction whose process says nothing: it may be frozen.
pub const POSTGRES_TRANSACTION_IDLE_MILLIS: u64 = 2_000;
/// How often taking a subscription over waits for its row: for longer than a frozen process can hold it.
pub const OWNER_LOCK_ATTEMPTS_MAX: usize = 4;
/// Milliseconds for which a topic's row may be locked, while its log is configured, and for which others wait for it.
pub const TOPIC_LOCK_MILLIS_MAX: u64 = 15_000;
/// Milliseconds after its last heartbeat for which a node still owns its subscriptions.
pub const NODE_LEASE_MILLIS: u64 = 5_000;
/// Heartbeats that a node sends within one lease.
pub const HEARTBEATS_PER_LEASE: u32 = 5;
/// Changes by other nodes that one read takes.
pub const CHANGES_PER_READ_MAX: usize = 1_000;
/// Milliseconds between two checks of which nodes have applied a change.
pub const CHANGE_POLL_MILLIS: u64 = 30;
/// Milliseconds that a change waits for living nodes to apply it. One that does not live counts no more after its lease.
pub const CHANGE_CONFIRM_MILLIS_MAX: u64 = 15_000;
/// Milliseconds of silence after which the connection that listens is tried.
pub const LISTENER_CHECK_MILLIS: u64 = 15_000;
/// Milliseconds between two sweeps of what is not needed any more in Postgres.
pub const SWEEP_MILLIS: u64 = 30_000;
/// Chunks that one transaction of a sweep removes.
pub const SWEEP_CHUNKS_MAX: u64 = 1_024;
/// Chunks that a node removes before it vacuums them, at least.
pub const VACUUM_CHUNKS_MIN: u64 = 10_000;
/// Where there are many chunks, it removes one in so many before it vacuums.
pub const VACUUM_SHARE: u64 = 10;
/// Milliseconds that such a vacuum may take.
pub const VACUUM_MILLIS_MAX: u64 = 5 * 60 * 1000;
/// Seconds for which a change is retained at least.
pub const CHANGES_RETENTION_SECONDS: u64 = 60 * 60;
/// Seconds for which the row of a node is retained after its lease has run out.
pub const NODES_RETENTION_SECONDS: u64 = 60 * 60;
/// Milliseconds that closing the connections to Postgres may take.
pub const CLOSE_WAIT_MILLIS_MAX: u64 = 1_200;

/// Characters of the name of a Kafka topic, as brokers have it.
pub const KAFKA_NAME_CHARS_MAX: usize = 249;
/// Characters of the prefix of our Kafka topics' names.
pub const KAFKA_PREFIX_CHARS_MAX: usize = 100;
/// Bytes of a Kafka record, and of a batch on its way to a broker: a publish request's single message, and what a
/// record adds to it.
pub const KAFKA_RECORD_BYTES_MAX: usize = 11 * 1024 * 1024;
/// Bytes of publish requests on their way to Kafka; more wait.
pub const KAFKA_APPEND_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Milliseconds for which a publish request waits for room on the way to Kafka.
pub const KAFKA_APPEND_WAIT_MILLIS: u64 = 900;
/// Milliseconds for which it waits then for those before it on the way to its partition.
pub const KAFKA_GATE_WAIT_MILLIS: u64 = 100;
/// Milliseconds after which a record that no broker has confirmed is given up; Kafka's client checks once a second.
pub const KAFKA_MESSAGE_TIMEOUT_MILLIS: u64 = 7_500;
/// The longest such time that may be configured: with the waits before it and after it, a publisher is answered within
/// little more than 10 s.
pub const KAFKA_MESSAGE_TIMEOUT_MILLIS_MAX: u64 = 8_000;
/// Milliseconds for which the answer to a publish request that was given up waits for why brokers took nothing.
pub const KAFKA_CAUSE_MILLIS: u64 = 300;
/// Milliseconds within which Kafka has to answer at the start.
pub const KAFKA_OPEN_MILLIS: u64 = 10_000;
/// Milliseconds within which Kafka has to answer a question about a topic or a read.
pub const KAFKA_ANSWER_MILLIS: u64 = 5_000;
/// Questions about topics that are asked at the same time, each on a thread of its own.
pub const KAFKA_QUESTIONS_MAX: usize = 8;
/// Topics of which brokers are asked in one call where they begin and end.
pub const KAFKA_TOPICS_PER_BOUNDS_CALL_MAX: usize = 64;
/// Partitions of which they are asked that in one call, but for those of the last topic.
pub const KAFKA_PARTITIONS_PER_BOUNDS_CALL_MAX: usize = 1_024;
/// Such calls at the same time.
pub const KAFKA_BOUNDS_CALLS_MAX: usize = 4;
/// Milliseconds within which brokers have to answer what is asked of several topics together; then each is asked about
/// alone.
pub const KAFKA_TOGETHER_MILLIS: u64 = 1_000;
/// Milliseconds for which the first publish to a topic waits until the client knows where it is.
pub const KAFKA_METADATA_MILLIS: u64 = 500;
/// Milliseconds for which a topic that no broker knows may be one that they have not heard of yet.
pub const KAFKA_UNKNOWN_MILLIS: u64 = 300;
/// Milliseconds for which all answers are that a topic is unknown until it counts as gone: a broker that has just
/// started knows less than there is.
pub const KAFKA_GONE_MILLIS: u64 = 2_000;
/// Topics that one call to Kafka creates or deletes.
pub const KAFKA_TOPICS_PER_CALL_MAX: usize = 16;
/// The same while a client publishes on the same node: brokers do little else during such a call.
pub const KAFKA_TOPICS_PER_SMALL_CALL_MAX: usize = 2;
/// Milliseconds per topic then from one call to the next.
pub const KAFKA_TOPICS_APART_MILLIS: u64 = 30;
/// Milliseconds that a request waits before calls are large again all the same: half of what clients wait.
pub const KAFKA_TOPICS_SMALL_CALLS_MILLIS: u64 = 30_000;
/// Longest pause between two such calls, milliseconds.
pub const KAFKA_TOPICS_PAUSE_MILLIS_MAX: u64 = 250;
/// Requests to create or delete a topic that wait for the next call.
pub const KAFKA_TOPIC_REQUESTS_MAX: usize = 1_024;
/// Consumers that read what is no longer in memory.
pub const KAFKA_READERS_MAX: usize = 4;
/// Partitions that each of them reads at the same time.
pub const KAFKA_READ_PARTITIONS_MAX: usize = 64;
/// Reads that each of them carries out at the same time: several may be of one partition.
pub const KAFKA_READS_TOGETHER_MAX: usize = 1_024;
/// Bytes that each of them hands over at the same time, divided among the partitions; each has one record at least.
pub const KAFKA_READ_BYTES_TOGETHER_MAX: usize = 16 * 1024 * 1024;
/// Milliseconds after which reads for which nothing came give way to others; twice as long each time.
pub const KAFKA_READ_TURN_MILLIS: u64 = 500;
/// Reads that wait for such a consumer.
pub const KAFKA_READS_WAITING_MAX: usize = 16_384;
/// Milliseconds after which such a consumer that nobody uses stops reading ahead.
pub const KAFKA_READER_IDLE_MILLIS: u64 = 1_000;
/// Kibibytes that each of them reads ahead.
pub const KAFKA_READ_AHEAD_KIB: usize = 8 * 1024;
/// Kibibytes that the consumer at the head of all watched topics reads ahead.
pub const KAFKA_FOLLOW_AHEAD_KIB: usize = 16 * 1024;
/// Records that it hands over in one pass, before others continue.
pub const KAFKA_FOLLOW_RECORDS_PER_PASS: usize = 256;
/// Milliseconds for which a new watcher waits until what is read at the head comes to the topic's end.
pub const KAFKA_FOLLOW_WAIT_MILLIS: u64 = 200;
/// Milliseconds between two checks whether watched topics have more partitions or nobody watches them any more.
pub const KAFKA_WATCH_REFRESH_MILLIS: u64 = 3_000;

/// Bytes of requests that the whole server holds at once; more are UNAVAILABLE.
pub const REQUEST_BYTES_HELD_MAX: usize = 1024 * 1024 * 1024;
/// Bytes of requests that one connection holds at once; more are UNAVAILABLE.
pub const CONNECTION_REQUEST_BYTES_HELD_MAX: usize = 128 * 1024 * 1024;
/// Bytes of a connection's requests that do not count in [`REQUEST_BYTES_HELD_MAX`].
pub const REQUEST_BYTES_UNCOUNTED: usize = 32 * 1024;
/// Beyond these, a connection takes so many bytes at once of [`REQUEST_BYTES_HELD_MAX`].
pub const REQUEST_BYTES_STEP: usize = 16 * 1024;
/// Bytes that an open request takes beside its headers and its body, as it counts.
pub const OPEN_REQUEST_BYTES: usize = 8 * 1024;
/// Bytes that a header takes beside its name and its value, as it counts.
pub const HEADER_OVERHEAD_BYTES: usize = 128;
/// Bytes of one compressed message that are unpacked between other requests; a larger one is unpacked on a thread
/// beside them.
pub const UNPACKED_AT_ONCE_MAX: usize = 256 * 1024;
/// Bytes of one message that are decoded while the other tasks of the thread wait; with a larger one they go on on
/// another thread.
pub const DECODED_AT_ONCE_MAX: usize = 1024 * 1024;
/// Compressed messages that are unpacked beside requests at the same time; more wait.
pub const UNPACKERS: usize = 2;
/// Concurrent requests and streams on one HTTP/2 connection.
pub const HTTP2_STREAMS_MAX: u32 = 1024;
/// Headers of one request.
pub const HEADERS_MAX: usize = 100;
/// Bytes of the headers of one request, with 32 for each as HTTP/2 counts them.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of headers that HTTP/2 takes in to answer that they are too many. It resets what has more, and closes
/// connections with headers that are far larger.
pub const HTTP2_HEADER_BYTES_MAX: u32 = 128 * 1024;
/// Open connections, where the process may have as many descriptors; a further one waits until one of these ends.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Descriptors that are left to stores and logs, or half of them where there are few.
pub const DESCRIPTORS_RESERVED: usize = 256;
/// Connections of one address of which it is not known yet which protocol they speak, or the following share of all
/// connections that there may be; a further one closes the oldest of these.
pub const SILENT_PER_ADDRESS_MAX: usize = 1024;
/// See [`SILENT_PER_ADDRESS_MAX`].
pub const SILENT_PER_ADDRESS_SHARE: usize = 4;
/// Milliseconds without a refused connection after which connections are not refused any more, as the log says.
pub const REFUSING_SETTLED_MILLIS: u64 = 10_000;
/// Connections that one address keeps waiting in the kernel.
pub const ACCEPT_BACKLOG_MAX: u32 = 1024;
/// Milliseconds for which no connection is accepted after the machine refused one (no file descriptors left).
pub const ACCEPT_PAUSE_MILLIS: u64 = 100;
/// Bytes that one request may have on the way before the server has read them.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes that all requests of one connection may have on the way before the server has read them.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Largest HTTP/2 frame that is accepted: large requests arrive in fewer pieces than with HTTP/2's 16 KiB.
pub const HTTP2_FRAME_BYTES_MAX: u32 = 256 * 1024;
/// Milliseconds of silence after which the server asks an HTTP/2 peer whether it is still there.
pub const HTTP2_PING_AFTER_MILLIS: u64 = 60_000;
/// Milliseconds that the peer has for the answer; then its connection is closed.
pub const HTTP2_PING_WAIT_MILLIS: u64 = 60_000;
/// Milliseconds within which a new connection has to show which protocol it speaks: a byte of HTTP/1.1 that HTTP/2 does
/// not begin with, or all 24 bytes with which that begins.
pub const PROTOCOL_WAIT_MILLIS: u64 = 10_000;
/// Milliseconds within which all headers of a request of HTTP/1.1 have to arrive, from the first connection or the last
/// answer on: also for how long such a connection may be idle.
pub const HEADERS_WAIT_MILLIS: u64 = 30_000;
/// Milliseconds within which the next part of a request has to arrive, or of an answer to be taken.
pub const TRANSFER_IDLE_MILLIS: u64 = 30_000;
/// Milliseconds that a whole request or answer has for this, beside those that it needs at
/// [`TRANSFER_BYTES_PER_SECOND_MIN`].
pub const TRANSFER_GRACE_MILLIS: u64 = 30_000;
/// Bytes of a request or an answer that a client moves per second at least.
pub const TRANSFER_BYTES_PER_SECOND_MIN: u64 = 16 * 1024;
/// Milliseconds after which a stream ends of which its client takes nothing.
pub const STREAM_UNREAD_MILLIS_MAX: u64 = 10 * 60 * 1000;
/// Bytes of an answer up to which it is handed to its connection as it is, and waits there without a deadline.
pub const SMALL_ANSWER_BYTES: usize = 16 * 1024;
/// Bytes of such answers that one connection holds and has not sent; more are treated as large ones.
pub const SMALL_ANSWERS_UNSENT_MAX: usize = 256 * 1024;
/// Bytes of an answer that do not count there: less than its request takes anyway.
pub const TINY_ANSWER_BYTES: usize = 256;
/// Bytes of the pieces in which larger ones are.
pub const ANSWER_PIECE_BYTES: usize = 64 * 1024;
/// Bytes of an answer that its connection has at most of such pieces.
pub const ANSWER_AHEAD_BYTES_MAX: usize = 256 * 1024;
/// Pages of lists that are made, or not taken by their clients, at the same time.
pub const PAGES_MAX: usize = 64;
/// The same of one connection.
pub const PAGES_PER_CONNECTION_MAX: usize = 8;
/// Milliseconds that a list waits to be one of these.
pub const PAGE_PLACE_WAIT_MILLIS: u64 = 10_000;
/// Entries of a list that the store in memory copies while all else waits for it.
pub const LISTED_AT_ONCE_MAX: usize = 16;
/// Milliseconds after which a connection ends that takes nothing of what is sent to it.
pub const WRITE_WAIT_MILLIS: u64 = 60_000;
/// Milliseconds that a stopping server gives to requests, streams and flushes.
pub const SHUTDOWN_MILLIS_MAX: u64 = 8_000;
/// Milliseconds that closing the stores may then still take.
pub const CLOSE_MILLIS_MAX: u64 = 1_500;

/// Bytes of a Publish request's body in REST: the largest request, its payload in base64, and the names around it.
pub const JSON_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of any other request's body in REST.
pub const SMALL_JSON_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of JSON, and of an answer that becomes JSON, that is read or written between other requests; more is on a
/// thread beside them.
pub const JSON_BYTES_AT_ONCE_MAX: usize = 16 * 1024;
/// Bytes of JSON that is large: it waits behind its like only.
pub const LARGE_JSON_BYTES: usize = 256 * 1024;
/// JSON of either size that is read or written beside the threads for requests at the same time: at least, or as much as
/// there are cores, and half of these for what is large.
pub const JSON_TURNS_MIN: usize = 2;
/// One connection has one part in so many of these turns.
pub const TURNS_OF_CONNECTION_SHARE: usize = 2;
/// Bytes of a body over REST that are taken in, or of an answer that are compressed, before other requests continue.
pub const JSON_PIECE_BYTES: usize = 64 * 1024;
/// Values of all kinds in a structure that is any JSON.
pub const STRUCTURE_VALUES_MAX: usize = 10_000;
/// Milliseconds for which the rest of a refused REST request is waited for.
pub const DISCARD_MILLIS_MAX: u64 = 5_000;
/// Bytes of a refused REST request that are read, and dropped.
pub const DISCARDED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Characters of a wrong value that an error about a REST request repeats.
pub const ECHOED_VALUE_CHARS_MAX: usize = 200;
/// How deep the fields lie that the parameter `fields` of a REST request asks for.
pub const SELECTION_DEPTH_MAX: usize = 32;
/// Members of all bindings of a policy.
pub const POLICY_MEMBERS_MAX: usize = 1_500;
/// Bytes of a policy's texts.
pub const POLICY_BYTES_MAX: usize = 250_000;
/// Permissions that one TestIamPermissions asks about.
pub const TESTED_PERMISSIONS_MAX: usize = 100;

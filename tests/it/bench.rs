//! `packetboat bench`: what its reports say of a server.

use std::time::Duration;

use packetboat::{
    bench::{self, Load, Plan, Progress, Report},
    proto::google::pubsub::v1::{
        DeleteSubscriptionRequest, ListSubscriptionsRequest, ListTopicsRequest, Subscription,
    },
};

use crate::support::{
    Client, Pubsub, eventually, ok,
    process::{Process, refusal, run},
    within,
};

const PROJECT: &str = "bench";

fn plan(server: &Pubsub) -> Plan {
    Plan {
        addr: server.address(),
        project: PROJECT.to_owned(),
        data_bytes: 100,
        batch: 10,
        measured: Duration::from_millis(200),
        lost_after: Duration::from_millis(500),
        connections: 2,
        in_flight: 4,
        streams: 2,
        outstanding: 100,
        subscriptions: 3,
        silent: 1,
        topics: 2,
        rate: 500,
        messages: 1000,
        new_topics: 50,
        holes: 500,
        data_dir: None,
        pid: Some(std::process::id()),
        keep: false,
    }
}

async fn measure(load: Load, plan: &Plan) -> Vec<Report> {
    let measured = bench::run(load, plan, |_: Progress| {});
    within("the load ends", measured).await.expect("measured")
}

async fn topics(client: &Client) -> usize {
    let request = ListTopicsRequest {
        project: format!("projects/{PROJECT}"),
        ..ListTopicsRequest::default()
    };
    ok(client.publisher().list_topics(request).await)
        .topics
        .len()
}

async fn subscriptions(client: &Client) -> Vec<Subscription> {
    let request = ListSubscriptionsRequest {
        project: format!("projects/{PROJECT}"),
        ..ListSubscriptionsRequest::default()
    };
    ok(client.subscriber().list_subscriptions(request).await).subscriptions
}

async fn delete(client: &Client, subscription: String) {
    let request = DeleteSubscriptionRequest { subscription };
    ok(client.subscriber().delete_subscription(request).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_load_finds_each_message_once_and_cleans_up() {
    let server = Pubsub::on_system_clock().await;
    let plan = plan(&server);
    for load in [
        Load::Publish,
        Load::HalfRate,
        Load::EndToEnd,
        Load::FanOut,
        Load::Filtered,
        Load::FilteredFanOut,
        Load::Ordered,
        Load::BlockedKey,
        Load::ExactlyOnce,
        Load::ExactlyOncePlain,
        Load::Receipts,
        Load::ExactlyOnceLatency,
        Load::Pull,
        Load::Latency,
        Load::Topics,
        Load::Backlog,
        Load::Holes,
    ] {
        for report in measure(load, &plan).await {
            let name = report.load;
            let new_topics = (name == "topics-during").then_some(50);
            assert_eq!(report.new_topics, new_topics, "{name}");
            assert!(report.published > 0, "{report:?}");
            // Topics may be made faster than the next message is due.
            if new_topics.is_none() {
                assert!(report.messages_per_second > 0.0, "{report:?}");
            }
            assert!(report.server_rss_peak_mb > Some(1.0), "{report:?}");
            if name == "backlog-publish" {
                assert_eq!((report.published, report.received), (1000, None));
                continue;
            }
            let wanted = match load {
                Load::FanOut => report.published * 2,
                Load::Filtered => report.published / 10,
                Load::FilteredFanOut => report.published * 3 / 100,
                _ => report.published,
            };
            assert_eq!(report.received, Some(wanted), "{name}");
            let is_filtered = matches!(load, Load::Filtered | Load::FilteredFanOut);
            assert_eq!(report.behind_ms.is_some(), is_filtered, "{name}");
            assert_eq!(
                (report.lost, report.duplicates),
                (Some(0), Some(0)),
                "{name}"
            );
            assert!(!report.void, "{name}");
        }
        assert_eq!(
            topics(&server.client()).await,
            0,
            "{load:?} leaves topics behind"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_of_single_calls_say_what_they_are_about_and_clean_up() {
    let server = Pubsub::on_system_clock().await;
    let plan = plan(&server);
    let redelivery = &measure(Load::Redelivery, &plan).await[0];
    assert_eq!(redelivery.published, 1000);
    assert!(redelivery.receive_ms.is_some(), "{redelivery:?}");
    let [before, after] = &measure(Load::Demand, &plan).await[..] else {
        panic!("two reports of demand");
    };
    assert_eq!((before.load, after.load), ("demand-before", "demand-after"));
    assert!(before.server_rss_mb > Some(1.0) && after.server_rss_mb > Some(1.0));
    let [before, after] = &measure(Load::Unread, &plan).await[..] else {
        panic!("two reports of unread");
    };
    assert_eq!((before.load, after.load), ("unread-before", "unread-after"));
    assert_eq!((before.streams, after.streams), (0, 3 * 2));
    assert!(before.server_rss_mb > Some(1.0) && after.server_rss_mb > Some(1.0));
    let [before, during] = &measure(Load::Cold, &plan).await[..] else {
        panic!("two reports of cold");
    };
    assert_eq!((before.load, during.load), ("cold-before", "cold-during"));
    assert!(before.ack_ms.is_some(), "{before:?}");
    assert_eq!(during.new_topics, Some(50));
    assert_eq!(topics(&server.client()).await, 0, "topics are left behind");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_whose_messages_did_not_all_come_is_void() {
    let server = Pubsub::on_system_clock().await;
    let plan = Plan {
        topics: 1,
        ..plan(&server)
    };
    let client = server.client();
    let thief = tokio::spawn(async move {
        let name = eventually("the load makes its subscription", || async {
            let made = subscriptions(&client).await;
            made.into_iter().next().map(|found| found.name)
        })
        .await;
        client.receive_and_ack(&name, 5).await.len() as u64
    });
    let reports = measure(Load::Publish, &plan).await;
    let stolen = thief.await.expect("a thief");
    assert_eq!(reports[0].lost, Some(stolen));
    assert!(reports[0].void);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_topics_stay() {
    let server = Pubsub::on_system_clock().await;
    let plan = Plan {
        keep: true,
        ..plan(&server)
    };
    let reports = measure(Load::Idle, &plan).await;
    assert_eq!((reports[0].published, reports[0].topics), (0, 2));
    assert_eq!(topics(&server.client()).await, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_of_exactly_once_delivery_ask_for_it() {
    let server = Pubsub::on_system_clock().await;
    let plan = Plan {
        measured: Duration::from_secs(1),
        keep: true,
        ..plan(&server)
    };
    for (load, wanted) in [
        (Load::ExactlyOnce, true),
        (Load::ExactlyOncePlain, true),
        (Load::ExactlyOnceLatency, true),
        (Load::Receipts, false),
    ] {
        let report = measure(load, &plan).await.remove(0);
        assert!(report.ack_ms.is_some(), "{report:?}");
        let made = subscriptions(&server.client()).await;
        assert!(!made.is_empty(), "{load:?}");
        for subscription in made {
            let is_exactly_once = subscription.enable_exactly_once_delivery;
            assert_eq!(is_exactly_once, wanted, "{load:?}");
            delete(&server.client(), subscription.name).await;
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_end_together_all_come_again() {
    let server = Pubsub::on_system_clock().await;
    let plan = Plan {
        rate: 50,
        messages: 200,
        ..plan(&server)
    };
    let (free, ordered) = tokio::join!(
        measure(Load::Expiry, &plan),
        measure(Load::ExpiryOrdered, &plan)
    );
    for (reports, before, during) in [
        (free, "expiry-before", "expiry-during"),
        (ordered, "expiry-ordered-before", "expiry-ordered-during"),
    ] {
        assert_eq!((reports[0].load, reports[1].load), (before, during));
        let crowd = &reports[1];
        assert_eq!((crowd.published, crowd.received), (200, Some(200)));
        assert!(!reports[0].void && !crowd.void, "{reports:?}");
    }
    assert_eq!(topics(&server.client()).await, 0, "topics are left behind");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_in_backoff_came_once() {
    let server = Pubsub::on_system_clock().await;
    let plan = plan(&server);
    let [before, after] = &measure(Load::Backoff, &plan).await[..] else {
        panic!("two reports of backoff");
    };
    assert_eq!(
        (before.load, after.load),
        ("backoff-before", "backoff-after")
    );
    assert_eq!((after.received, after.duplicates), (Some(1000), Some(0)));
    assert!(before.server_rss_mb > Some(1.0) && after.server_rss_mb > Some(1.0));
    assert!(
        after.server_cpu_percent.is_some() && !after.void,
        "{after:?}"
    );
    assert_eq!(topics(&server.client()).await, 0, "topics are left behind");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_round_beside_a_neighbour() {
    let server = Pubsub::on_system_clock().await;
    let plan = Plan {
        measured: Duration::from_secs(1),
        rate: 50,
        messages: 20,
        ..plan(&server)
    };
    let [before, during] = &measure(Load::DeadLetterCycle, &plan).await[..] else {
        panic!("two reports of dead-letter-cycle");
    };
    assert_eq!(before.load, "dead-letter-cycle-before");
    assert_eq!(during.load, "dead-letter-cycle-during");
    assert_eq!(before.nacks_per_second, None);
    assert!(during.nacks_per_second > Some(0.0), "{during:?}");
    assert!(before.receive_ms.is_some() && during.receive_ms.is_some());
    assert!(!before.void && !during.void, "{during:?}");
    assert_eq!(topics(&server.client()).await, 0, "topics are left behind");
    server.stop().await;
}

#[tokio::test]
async fn the_command_prints_one_json_object_per_measurement() {
    let server = Process::serve(&["--ephemeral", "--listen", "127.0.0.1:0"]).await;
    let address = server.addresses[0].to_string();
    let pid = server.id().to_string();
    let arguments = [
        "bench",
        "latency",
        "backlog",
        "--addr",
        &address,
        "--pid",
        &pid,
        "--seconds",
        "1",
        "--messages",
        "500",
    ];
    let output = run(&arguments).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let loads: Vec<_> = lines.iter().map(|line| line["load"].as_str()).collect();
    assert_eq!(
        loads,
        [
            Some("latency"),
            Some("backlog-publish"),
            Some("backlog-drain")
        ]
    );
    assert_eq!(lines[0]["void"], false);
    assert!(lines[0]["receive_ms"]["p50"].as_f64() > Some(0.0), "{text}");
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused_and_named() {
    let nobody = refusal(&["bench", "publish", "--addr", "127.0.0.1:1"]).await;
    assert!(nobody.contains("cannot connect to 127.0.0.1:1"), "{nobody}");
    let all_silent = refusal(&["bench", "--subscriptions", "2", "--silent", "2"]).await;
    assert!(all_silent.contains("--silent 2"), "{all_silent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn above_holes_little_more_than_the_backlog_is_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Pubsub::in_directory_on_system_clock(directory.path()).await;
    let plan = Plan {
        batch: 20,
        data_bytes: 10_000,
        holes: 500,
        rate: 2_000,
        measured: Duration::from_secs(6),
        lost_after: Duration::from_secs(5),
        data_dir: Some(directory.path().to_owned()),
        ..plan(&server)
    };
    let report = measure(Load::Holes, &plan).await.remove(0);
    assert!(!report.void, "{report:?}");
    let backlog_mb = 500.0 * 10_000.0 / 1e6;
    let published_mb = report.published as f64 * 10_000.0 / 1e6;
    assert!(published_mb > 12.0 * backlog_mb, "{report:?}");
    let data_mb = report.data_mb.expect("a data directory");
    assert!(data_mb < 2.0 * backlog_mb + 64.0, "{report:?}");
    server.stop().await;
}

//! Starting and stopping the command.

use std::{net::SocketAddr, time::Duration};

use futures_util::StreamExt;
use http::Request;
use http_body_util::StreamBody;
use packetboat::{
    limits,
    proto::google::pubsub::v1::{
        StreamingPullRequest, Subscription, Topic, publisher_client::PublisherClient,
        subscriber_client::SubscriberClient,
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::ServiceExt;

use crate::support::{
    process::{Process, refusal, run, run_with},
    starts::File,
};

const FREE: [&str; 3] = ["--ephemeral", "--listen", "127.0.0.1:0"];
/// The longest stop that is promised.
const STOP: Duration = Duration::from_secs(10);

async fn health(channel: Channel) -> Result<(), tonic::Status> {
    HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .map(drop)
}

/// A request whose body never ends, sent and being answered.
async fn endless_request(channel: Channel) -> tokio::task::JoinHandle<()> {
    let body = StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<bytes::Bytes>, tonic::Status>,
    >());
    let request = Request::post("/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(body))
        .expect("a request");
    let sent = tokio::spawn({
        let channel = channel.clone();
        async move { drop(channel.oneshot(request).await) }
    });
    // The requests of a connection are taken in order: when a later one is answered, that one is there.
    tokio::task::yield_now().await;
    health(channel).await.expect("served");
    sent
}

/// Returns once nobody listens on `address` any more.
async fn refuses_connections(address: SocketAddr) {
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(STOP, refused).await.expect("the listener closes");
}

#[tokio::test]
async fn a_started_server_prints_where_it_is_and_what_to_paste() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let data = data.to_str().expect("a path of text");
    let server = Process::serve(&["--listen", "127.0.0.1:0", "--data-dir", data]).await;
    let address = server.addresses[0];
    assert_ne!(address.port(), 0);
    assert!(server.greeting.contains(data), "{}", server.greeting);
    let export = format!("\nexport PUBSUB_EMULATOR_HOST={address}\n");
    assert!(server.greeting.contains(&export), "{}", server.greeting);
    health(server.channel().await).await.expect("it serves");
}

#[tokio::test]
async fn help_names_each_flag_and_its_environment_variable() {
    let help = run(&["serve", "--help"]).await;
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).expect("text");
    for flag in [
        "listen",
        "allowed-origin",
        "allowed-host",
        "data-dir",
        "ephemeral",
        "log-level",
        "log-format",
        "insecure",
    ] {
        let variable = format!("PACKETBOAT_{}", flag.replace('-', "_").to_uppercase());
        assert!(help.contains(&format!("--{flag}")), "{flag}: {help}");
        assert!(help.contains(&variable), "{variable}: {help}");
    }
}

#[tokio::test]
async fn environment_variables_do_what_the_flags_do() {
    let server = Process::serve_with(
        &[],
        &[
            ("PACKETBOAT_LISTEN", "127.0.0.1:0,127.0.0.2:0"),
            ("PACKETBOAT_EPHEMERAL", "true"),
            ("PACKETBOAT_LOG_FORMAT", "json"),
            ("PACKETBOAT_LOG_LEVEL", "info"),
        ],
    )
    .await;
    assert_eq!(server.addresses.len(), 2);
    assert!(server.greeting.contains("in memory"), "{}", server.greeting);
    server.signal("TERM").await;
    let (status, log) = server.ended().await;
    assert!(status.success());
    assert!(!log.is_empty());
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");

    let unknown = run_with(&["serve"], &[("PACKETBOAT_LOG_LEVEL", "loud")]).await;
    assert!(!unknown.status.success());
    let text = String::from_utf8(unknown.stderr).expect("text");
    assert!(text.contains("loud") && text.contains("debug"), "{text}");
}

#[tokio::test]
async fn an_address_that_others_reach_needs_insecure() {
    let open = ["--ephemeral", "--listen", "0.0.0.0:0"];
    let text = refusal(&[&["serve"], &open[..]].concat()).await;
    assert!(text.contains("0.0.0.0:0"), "{text}");
    assert!(text.contains("no authentication"), "{text}");
    assert!(text.contains("--insecure"), "{text}");

    let server = Process::serve(&[&open[..], &["--insecure"]].concat()).await;
    let port = server.addresses[0].port();
    let export = format!("export PUBSUB_EMULATOR_HOST=127.0.0.1:{port}");
    assert!(server.greeting.contains(&export), "{}", server.greeting);
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() {
    let other = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = other.local_addr().expect("bound").to_string();
    let text = refusal(&["serve", "--ephemeral", "--listen", &address]).await;
    assert!(text.contains(&address), "{text}");
    assert!(text.contains("uses this port"), "{text}");
}

#[tokio::test]
async fn a_second_server_on_a_data_directory_is_told_who_holds_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("a path of text");
    let arguments = ["--listen", "127.0.0.1:0", "--data-dir", data];
    let first = Process::serve(&arguments).await;
    let text = refusal(&[&["serve"], &arguments[..]].concat()).await;
    assert!(text.contains(data), "{text}");
    assert!(text.contains(&first.id().to_string()), "{text}");
    health(first.channel().await)
        .await
        .expect("the first serves");
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_is_one_clear_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a file");
    std::fs::write(&file, "not a directory").expect("a file");
    let data = file.to_str().expect("a path of text");
    let text = refusal(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data]).await;
    assert!(text.contains(data), "{text}");
    assert_eq!(
        std::fs::read(&file).expect("still there"),
        b"not a directory"
    );
}

#[tokio::test]
async fn a_file_of_settings_that_others_may_write_or_that_shows_them_a_secret_is_told() {
    let file = File::new("[kafka.properties]\n'sasl.password' = 's3cret'\n");
    file.set_mode(0o644);
    let arguments = [&FREE[..], &["--config", file.path()]].concat();
    let server = Process::serve(&arguments).await;
    server.signal("TERM").await;
    let (_, log) = server.ended().await;
    assert!(
        log.contains(file.path()) && log.contains("chmod o-r"),
        "{log}"
    );
    assert!(!log.contains("s3cret"), "{log}");

    file.set_mode(0o602);
    let refused = refusal(&[&["serve"], &arguments[..]].concat()).await;
    assert!(
        refused.contains(file.path()) && refused.contains("chmod o-w"),
        "{refused}"
    );
}

#[tokio::test]
async fn sigterm_and_ctrl_c_stop_a_server_with_exit_code_0() {
    for signal in ["TERM", "INT"] {
        let server = Process::serve(&FREE).await;
        let _idle = server.channel().await;
        server.signal(signal).await;
        let (status, log) = timeout(STOP, server.ended()).await.expect("in time");
        assert_eq!(status.code(), Some(0), "{signal}: {log}");
    }
}

#[tokio::test]
async fn an_open_streaming_pull_ends_with_unavailable_when_the_server_stops() {
    let server = Process::serve(&FREE).await;
    let channel = server.channel().await;
    let topic = "projects/p/topics/stopping".to_owned();
    let name = "projects/p/subscriptions/stopping".to_owned();
    PublisherClient::new(channel.clone())
        .create_topic(Topic {
            name: topic.clone(),
            ..Topic::default()
        })
        .await
        .expect("created");
    let mut subscriber = SubscriberClient::new(channel);
    subscriber
        .create_subscription(Subscription {
            name: name.clone(),
            topic,
            ..Subscription::default()
        })
        .await
        .expect("created");
    let first = StreamingPullRequest {
        subscription: name,
        stream_ack_deadline_seconds: 10,
        ..StreamingPullRequest::default()
    };
    let requests = futures_util::stream::iter([first]).chain(futures_util::stream::pending());
    let mut stream = subscriber
        .streaming_pull(requests)
        .await
        .expect("open")
        .into_inner();
    server.signal("TERM").await;
    let end = loop {
        match stream.next().await.expect("a stream ends with a status") {
            Ok(_properties) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    let (status, log) = timeout(STOP, server.ended()).await.expect("in time");
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_a_stop_up() {
    let server = Process::serve(&FREE).await;
    let _open = endless_request(server.channel().await).await;
    server.signal("TERM").await;
    let longest = Duration::from_millis(limits::SHUTDOWN_MILLIS_MAX + limits::CLOSE_MILLIS_MAX);
    assert!(longest < STOP);
    let (status, log) = timeout(STOP, server.ended()).await.expect("in time");
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("cut off"), "{log}");
}

#[tokio::test]
async fn a_second_signal_stops_a_server_at_once() {
    let server = Process::serve(&FREE).await;
    let _open = endless_request(server.channel().await).await;
    server.signal("TERM").await;
    refuses_connections(server.addresses[0]).await;
    server.signal("TERM").await;
    let (status, log) = server.ended().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
}

#[tokio::test]
async fn a_server_that_ran_out_of_file_descriptors_serves_again_when_some_are_free() {
    let server = Process::serve_with_files(40, &FREE).await;
    let mut connections = Vec::new();
    for _ in 0..60 {
        let connection = TcpStream::connect(server.addresses[0]).await;
        connections.push(connection.expect("the kernel keeps it waiting"));
    }
    drop(connections);
    let channel = timeout(STOP, server.channel()).await.expect("in time");
    health(channel).await.expect("it serves");
    server.signal("TERM").await;
    let (status, log) = server.ended().await;
    assert!(status.success(), "{log}");
    let refused = log.matches("connections are refused").count();
    assert_eq!(refused, 1, "one line, however many were refused: {log}");
}

#[tokio::test]
async fn more_silent_connections_than_descriptors_keep_nobody_out() {
    packetboat::descriptors::raise();
    let server = Process::serve_with_files(1024, &FREE).await;
    let mut silent = Vec::new();
    for _ in 0..1100 {
        let connection = TcpStream::connect(server.addresses[0]).await;
        silent.push(connection.expect("the kernel keeps it waiting"));
    }
    for _ in 0..3 {
        let channel = timeout(STOP, server.channel()).await.expect("in time");
        health(channel).await.expect("it serves");
    }
    drop(silent);
    server.signal("TERM").await;
    let (status, log) = server.ended().await;
    assert!(status.success(), "{log}");
    let refused = log.matches("connections are refused").count();
    assert_eq!(refused, 1, "one line, however many were refused: {log}");
}

#[tokio::test]
async fn a_limit_of_descriptors_that_may_be_raised_is_raised() {
    let limited = "ulimit -S -n 64 && exec \"$@\"";
    let server = Process::serve_under(&["sh", "-c", limited, "sh"], &FREE).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id()));
    let limits = limits.expect("it runs");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let files: Vec<_> = files.expect("a limit").split_whitespace().collect();
    assert_eq!(files[3], files[4], "{limits}");
    assert_ne!(files[3], "64", "{limits}");
}

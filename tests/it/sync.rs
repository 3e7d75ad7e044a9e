//! An answer means that what it answers is on disk: between a request and its answer, strace sees the files synced.
//! (SIGKILL cannot show that a sync is missing: the kernel keeps what a process wrote.)

use std::collections::HashMap;

use crate::support::{ok, process::Process};

/// One line of the trace, as far as this test reads it.
#[derive(Debug)]
enum Event {
    /// A file or socket was written, or its write began.
    Write { target: String, bytes: Vec<u8> },
    /// Bytes came from a file or socket.
    Read { target: String, bytes: Vec<u8> },
    /// A sync of this file came to its end.
    Synced { target: String },
}

/// Turns `\x66\x6f\x6f` into bytes.
fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.split("\\x").skip(1);
    let bytes = digits.filter_map(|pair| u8::from_str_radix(pair.get(..2)?, 16).ok());
    bytes.collect()
}

/// What the first descriptor of a call stands for: the path of a file, or `TCP:` and more.
fn target(line: &str) -> Option<String> {
    let start = line.find('<')? + 1;
    let end = start + line[start..].find('>')?;
    let target = &line[start..end];
    if target.starts_with("TCP") {
        return Some(target.to_owned());
    }
    Some(String::from_utf8_lossy(&from_hex(target)).into_owned())
}

/// Everything between quotes, put together.
fn quoted(line: &str) -> Vec<u8> {
    line.split('"')
        .skip(1)
        .step_by(2)
        .flat_map(from_hex)
        .collect()
}

/// The trace in the order of its lines. A call that another thread interrupts is two lines; what it writes is in
/// the first, what it reads and whether it is done is in the second.
fn events(trace: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut unfinished: HashMap<&str, &str> = HashMap::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or_default();
        let call = call.trim_start();
        let resumed = call.starts_with("<...");
        let begun = if resumed {
            unfinished.remove(thread).unwrap_or_default()
        } else {
            call
        };
        let interrupted = call.contains("<unfinished");
        if interrupted {
            unfinished.insert(thread, call);
        }
        let Some(target) = target(begun) else {
            continue;
        };
        let name = begun.split('(').next().unwrap_or_default();
        let bytes = quoted(call);
        match name {
            "write" | "writev" | "pwrite64" | "pwritev" | "sendto" | "sendmsg" if !resumed => {
                events.push(Event::Write { target, bytes });
            }
            "read" | "readv" | "recvfrom" | "recvmsg" if !interrupted => {
                events.push(Event::Read { target, bytes });
            }
            "fsync" | "fdatasync" if call.ends_with("= 0") => {
                events.push(Event::Synced { target });
            }
            _ => {}
        }
    }
    events
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Where an empty message is answered: a gRPC frame of no bytes in an HTTP/2 DATA frame.
fn is_empty_answer(bytes: &[u8]) -> bool {
    let data_frame = |window: &[u8]| {
        window[..4] == [0, 0, 5, 0] && window[4..9] != [0; 5] && window[9..] == [0; 5]
    };
    bytes.windows(14).any(data_frame)
}

/// The position of the first event from `from` on that is a request over the network with `part` in it.
fn request(events: &[Event], from: usize, part: &[u8]) -> usize {
    let is_request = |event: &Event| matches!(event, Event::Read { target, bytes } if target.starts_with("TCP") && contains(bytes, part));
    let found = events[from..].iter().position(is_request);
    from + found.expect("the request is in the trace")
}

/// The position of the first event from `from` on that is an answer over the network.
fn answer(events: &[Event], from: usize, is_answer: impl Fn(&[u8]) -> bool) -> usize {
    let is_answer = |event: &Event| matches!(event, Event::Write { target, bytes } if target.starts_with("TCP") && is_answer(bytes));
    let found = events[from..].iter().position(is_answer);
    from + found.expect("the answer is in the trace")
}

/// Whether one of the files of `data` that were written with bytes that satisfy `is_content` was synced after that.
fn written_and_synced(events: &[Event], data: &str, is_content: impl Fn(&[u8]) -> bool) -> bool {
    events.iter().enumerate().any(|(at, event)| match event {
        Event::Write { target, bytes } if target.starts_with(data) && is_content(bytes) => events
            [at..]
            .iter()
            .any(|later| matches!(later, Event::Synced { target: synced } if synced == target)),
        _ => false,
    })
}

#[tokio::test]
async fn publish_and_acknowledge_are_answered_after_a_sync() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().canonicalize().expect("a real path");
    let (data, trace) = (root.join("data"), root.join("trace"));
    let data = data.to_str().expect("a path of text").to_owned();
    let version = std::process::Command::new("strace").arg("-V").output();
    version.expect("this test needs strace: apt-get install strace");
    let strace = [
        "strace",
        // The server stays this process's child, so that it ends with it.
        "-D",
        "-f",
        "-yy",
        "-xx",
        "-s",
        "65536",
        "-e",
        "trace=fsync,fdatasync,write,writev,pwrite64,pwritev,sendto,sendmsg,read,readv,recvfrom,recvmsg",
        "-o",
        trace.to_str().expect("a path of text"),
    ];
    let server =
        Process::serve_under(&strace, &["--listen", "127.0.0.1:0", "--data-dir", &data]).await;
    let client = server.client().await;
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    let mut answered = Vec::new();
    for number in 0..5 {
        let text = format!("marker-{number}-of-a-message");
        let id = client.publish_text(&topic, &text).await;
        let received = client.receive_one(&subscription).await;
        assert_eq!(received.text(), text);
        ok(client
            .ack(&subscription, vec![received.ack_id.clone()])
            .await);
        answered.push((text, id, received.ack_id));
    }
    server.signal("TERM").await;
    server.ended().await;

    let trace = std::fs::read_to_string(&trace).expect("the trace");
    let events = events(&trace);
    let mut from = 0;
    for (text, message_id, ack_id) in answered {
        let is_message = |bytes: &[u8]| contains(bytes, text.as_bytes());
        let asked = request(&events, from, text.as_bytes());
        let told = answer(&events, asked, |bytes| {
            contains(bytes, message_id.as_bytes())
        });
        let between = &events[asked..told];
        assert!(
            written_and_synced(between, &data, is_message),
            "Publish of {text} was answered before it was synced: {between:#?}"
        );

        let asked = request(&events, told, ack_id.as_bytes());
        let told = answer(&events, asked, is_empty_answer);
        let between = &events[asked..told];
        assert!(
            written_and_synced(between, &data, |_| true),
            "Acknowledge of {text} was answered before it was synced: {between:#?}"
        );
        from = told;
    }
}

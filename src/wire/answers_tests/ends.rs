//! How streams and pulls end that wait when something happens to their subscription or server.

use std::{fmt::Write as _, time::Duration};

use futures_util::{StreamExt, stream};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use super::{
    call::{self, Answer},
    text::{self, ACK_ID},
    world::{Situation, World},
};

const SUB: &str = "projects/p/subscriptions/sub";
/// It has no message.
const ORPHAN: &str = "projects/p/subscriptions/orphan";

/// What happens meanwhile.
#[derive(Clone, Copy)]
enum Event {
    /// This RPC is carried out on the subscription.
    Rpc(&'static str),
    /// The server stops.
    Stop,
    /// The node's lease runs out.
    LoseLease,
    /// Another node delivers the subscription, and this one finds that when it stores an acknowledgement.
    TakeOver,
    /// Nothing, for so many seconds.
    Time(u64),
}

pub(super) async fn answers() -> String {
    let mut answers = String::new();
    for (title, subscription, event) in [
        (
            "it is deleted",
            SUB,
            Event::Rpc("Subscriber/DeleteSubscription"),
        ),
        (
            "it is detached",
            SUB,
            Event::Rpc("Publisher/DetachSubscription"),
        ),
        ("another node takes it over", SUB, Event::TakeOver),
        ("the server stops", SUB, Event::Stop),
        ("the lease runs out", ORPHAN, Event::LoseLease),
        (
            "there is no message for 20 seconds",
            ORPHAN,
            Event::Time(20),
        ),
    ] {
        let pull = json!({"subscription": subscription, "maxMessages": 1});
        let pull = waiting("Subscriber/Pull", pull, event).await;
        writeln!(answers, "== a pull waits, and {title}\n{pull}").expect("a string takes it");
        if let Event::Time(_) = event {
            // A stream has no end then.
            continue;
        }
        let stream = json!({"subscription": subscription, "streamAckDeadlineSeconds": 10});
        let stream = waiting("Subscriber/StreamingPull", stream, event).await;
        writeln!(answers, "== a stream waits, and {title}\n{stream}").expect("a string takes it");
    }
    answers
}

/// The answer to a request that waits while something happens. What was asked meanwhile comes before it.
async fn waiting(rpc: &str, request: Value, event: Event) -> String {
    let situation = match event {
        Event::LoseLease => Situation::WithLease,
        _ => Situation::Serving,
    };
    let world = World::new(&situation).await;
    let method = call::method(rpc);
    let path = call::path(&method);
    let message = DynamicMessage::deserialize(method.input(), request).expect("a request");
    let frames = stream::iter([call::frame(&message.encode_to_vec())]);
    let requests = if method.is_client_streaming() {
        frames.chain(stream::pending()).boxed()
    } else {
        frames.boxed()
    };
    let asked = async {
        let response = world.answer(call::request(&path, requests)).await;
        call::finished(&world, &path, response).await
    };
    let happens = async {
        // Enough for the request to come to where it waits.
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        happen(&world, event).await
    };
    let (answer, meanwhile): (Answer, String) = tokio::join!(asked, happens);
    meanwhile + &answer.text(&world.ack_id)
}

/// Turns of all tasks after which a request waits.
const TURNS: usize = 1_000;

async fn happen(world: &World, event: Event) -> String {
    match event {
        Event::Rpc(rpc) => {
            let answer = call::grpc(world, rpc, &[json!({"subscription": SUB})]).await;
            answer.expect_ok(rpc);
        }
        Event::Stop => world.stop().await,
        Event::LoseLease => world.lose_node_lease(),
        Event::TakeOver => {
            let rpc = "Subscriber/Pull";
            let pull = json!({"subscription": SUB, "maxMessages": 1, "returnImmediately": true});
            let other = world.another().await;
            call::grpc(&other, rpc, &[pull]).await.expect_ok(rpc);
            let acknowledge = json!({"subscription": SUB, "ackIds": [ACK_ID]});
            let acknowledge = text::with_ack_id(&acknowledge, &world.ack_id);
            let rpc = "Subscriber/Acknowledge";
            let answer = call::grpc(world, rpc, &[acknowledge]).await;
            return format!("{rpc} meanwhile: {}", answer.text(&world.ack_id));
        }
        Event::Time(seconds) => world.advance(Duration::from_secs(seconds)),
    }
    String::new()
}

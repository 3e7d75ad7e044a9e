//! One run: pulls letters, publishes those that are to go back, and acknowledges them.

use std::collections::{BTreeMap, BTreeSet};

use tonic::{Code, transport::Channel};

use super::{Destination, Done, Observer, Plan, RedriveError, held::Held, letter::Letter, refused};
use crate::{
    clock::Timestamp,
    proto::google::pubsub::v1::{
        AcknowledgeRequest, GetSubscriptionRequest, ListTopicSubscriptionsRequest, PublishRequest,
        PullRequest, publisher_client::PublisherClient, subscriber_client::SubscriberClient,
    },
    resource::name::{DELETED_TOPIC, SubscriptionName, TopicName},
};

/// Messages that are pulled and published at a time.
const BATCH: usize = 100;
/// Bytes of messages in one request, as Pub/Sub limits them, with some room.
const REQUEST_BYTES_MAX: usize = 9_000_000;
/// Letters that stay and are held at most.
const HELD_MAX: usize = 100_000;

/// See the module.
pub(super) struct Run<'a, O> {
    pub(super) plan: &'a Plan,
    pub(super) observer: &'a mut O,
    pub(super) held: Held,
    pub(super) subscriber: SubscriberClient<Channel>,
    pub(super) publisher: PublisherClient<Channel>,
    pub(super) started: Timestamp,
    /// The topics of subscriptions.
    pub(super) topics: BTreeMap<SubscriptionName, Option<TopicName>>,
    pub(super) allowed: BTreeSet<TopicName>,
    /// Ordering keys of which a publication failed, by topic.
    pub(super) stopped_keys: BTreeSet<(TopicName, String)>,
    pub(super) done: Done,
}

impl<O: Observer> Run<'_, O> {
    /// Runs until nothing is left that was published before it began.
    pub(super) async fn run(&mut self) -> Result<(), RedriveError> {
        loop {
            let sent = self.done.sent + self.done.failed;
            let room = self
                .plan
                .limit
                .map_or(BATCH as u64, |limit| limit.saturating_sub(sent));
            if room == 0 {
                return Ok(());
            }
            if self.held.len() >= HELD_MAX {
                let text = format!("{HELD_MAX} messages stay, and more may be behind them");
                self.observer.fails(text);
                return Ok(());
            }
            let wanted = if self.plan.filter.is_none() {
                room.min(BATCH as u64)
            } else {
                BATCH as u64
            };
            let letters = self.pull(wanted).await?;
            let has_older = letters.iter().any(|it| !it.is_since(self.started));
            let ids = letters.iter().map(|it| it.ack_id.clone()).collect();
            self.held
                .add(ids)
                .await
                .map_err(refused("ModifyAckDeadline"))?;
            let mut chosen = Vec::new();
            for letter in letters {
                let matches = self
                    .plan
                    .filter
                    .as_ref()
                    .is_none_or(|it| letter.matches(it));
                if matches && !letter.is_since(self.started) && (chosen.len() as u64) < room {
                    chosen.push(letter);
                } else {
                    self.done.left += 1;
                }
            }
            self.send(chosen).await?;
            self.observer.progress(self.done);
            self.held
                .extend_if_due()
                .await
                .map_err(refused("ModifyAckDeadline"))?;
            if !has_older {
                return Ok(());
            }
        }
    }

    async fn pull(&mut self, messages_max: u64) -> Result<Vec<Letter>, RedriveError> {
        #[expect(deprecated, reason = "an empty answer is the end")]
        let request = PullRequest {
            subscription: self.plan.subscription.as_str().to_owned(),
            max_messages: i32::try_from(messages_max).unwrap_or(i32::MAX),
            return_immediately: true,
        };
        let pulled = self
            .subscriber
            .pull(request)
            .await
            .map_err(refused("Pull"))?;
        let received = pulled.into_inner().received_messages.into_iter();
        received.map(Letter::new).collect()
    }

    /// Publishes letters, neighbours that go to one topic in one request.
    async fn send(&mut self, letters: Vec<Letter>) -> Result<(), RedriveError> {
        let mut requests: Vec<(TopicName, Vec<Letter>, usize)> = Vec::new();
        for letter in letters {
            let topic = self.topic_of(&letter).await?;
            if !self.allowed.contains(&topic) {
                let source = letter.source();
                let others = self.others(&topic, source.as_ref()).await?;
                let destination = Destination {
                    topic: topic.clone(),
                    others,
                };
                if !self.observer.allows(&destination) {
                    return Err(RedriveError::NotAllowed);
                }
                self.allowed.insert(topic.clone());
            }
            let bytes = letter.original().len();
            match requests.last_mut() {
                Some((same, letters, sum))
                    if *same == topic && *sum + bytes < REQUEST_BYTES_MAX =>
                {
                    letters.push(letter);
                    *sum += bytes;
                }
                _ => requests.push((topic, vec![letter], bytes)),
            }
        }
        for (topic, letters, _) in requests {
            self.publish(&topic, letters).await?;
        }
        Ok(())
    }

    async fn publish(
        &mut self,
        topic: &TopicName,
        letters: Vec<Letter>,
    ) -> Result<(), RedriveError> {
        let key = |letter: &Letter| (topic.clone(), letter.ordering_key().to_owned());
        let (stopped, letters): (Vec<_>, Vec<_>) = letters
            .into_iter()
            .partition(|letter| self.stopped_keys.contains(&key(letter)));
        self.done.failed += stopped.len() as u64;
        if letters.is_empty() {
            return Ok(());
        }
        let count = letters.len() as u64;
        if self.plan.dry_run {
            self.done.sent += count;
            return Ok(());
        }
        let request = PublishRequest {
            topic: topic.as_str().to_owned(),
            messages: letters.iter().map(Letter::original).collect(),
        };
        if let Err(status) = self.publisher.publish(request).await {
            let keys = letters.iter().filter(|it| !it.ordering_key().is_empty());
            self.stopped_keys.extend(keys.map(key));
            self.done.failed += count;
            let error = refused("Publish")(status);
            self.observer.fails(format!(
                "{count} messages were not published to {topic}: {error}"
            ));
            return Ok(());
        }
        self.done.sent += count;
        let ack_ids: Vec<_> = letters.into_iter().map(|letter| letter.ack_id).collect();
        let request = AcknowledgeRequest {
            subscription: self.plan.subscription.as_str().to_owned(),
            ack_ids: ack_ids.clone(),
        };
        match self.subscriber.acknowledge(request).await {
            Ok(_) => self.held.forget(&ack_ids),
            Err(status) => {
                self.done.unacknowledged += count;
                let error = refused("Acknowledge")(status);
                self.observer
                    .fails(format!("{count} messages were published and stay: {error}"));
            }
        }
        Ok(())
    }

    async fn topic_of(&mut self, letter: &Letter) -> Result<TopicName, RedriveError> {
        if let Some(topic) = &self.plan.to_topic {
            return Ok(topic.clone());
        }
        let Some(source) = letter.source() else {
            let text = "a message does not say which subscription it comes from";
            return Err(RedriveError::NoTopic(text.to_owned()));
        };
        if !self.topics.contains_key(&source) {
            let topic = self.topic_of_subscription(&source).await?;
            self.topics.insert(source.clone(), topic);
        }
        let topic = self.topics.get(&source).cloned().flatten();
        let gone = || RedriveError::NoTopic(format!("{source} is gone, or its topic is"));
        topic.ok_or_else(gone)
    }

    async fn topic_of_subscription(
        &mut self,
        source: &SubscriptionName,
    ) -> Result<Option<TopicName>, RedriveError> {
        let request = GetSubscriptionRequest {
            subscription: source.as_str().to_owned(),
        };
        match self.subscriber.get_subscription(request).await {
            Ok(found) => {
                let found = found.into_inner();
                let has_topic = found.topic != DELETED_TOPIC && !found.detached;
                let topic = has_topic.then(|| TopicName::parse("topic", &found.topic));
                topic.transpose().map_err(|_| RedriveError::Answer)
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(refused("GetSubscription")(status)),
        }
    }

    /// The subscriptions of a topic but the one that letters come from.
    async fn others(
        &mut self,
        topic: &TopicName,
        source: Option<&SubscriptionName>,
    ) -> Result<Vec<String>, RedriveError> {
        let mut others = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListTopicSubscriptionsRequest {
                topic: topic.as_str().to_owned(),
                page_size: 0,
                page_token,
            };
            let listed = self.publisher.list_topic_subscriptions(request).await;
            let listed = listed
                .map_err(refused("ListTopicSubscriptions"))?
                .into_inner();
            others.extend(listed.subscriptions);
            page_token = listed.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        others.retain(|name| source.is_none_or(|source| source.as_str() != name));
        Ok(others)
    }
}

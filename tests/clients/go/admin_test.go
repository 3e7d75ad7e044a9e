package clients

import (
	"maps"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Fatalf("want %v, got %v", want, err)
	}
}

func TestCreatingTwiceIsRefusedAndMissingResourcesAreNotFound(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, err := b.client.TopicAdminClient.CreateTopic(b.ctx, &pubsubpb.Topic{Name: b.topic})
	wantCode(t, err, codes.AlreadyExists)
	_, err = b.client.TopicAdminClient.GetTopic(b.ctx, &pubsubpb.GetTopicRequest{Topic: b.topic + "-missing"})
	wantCode(t, err, codes.NotFound)
	topics := b.client.TopicAdminClient.ListTopics(b.ctx, &pubsubpb.ListTopicsRequest{Project: "projects/" + project})
	topic, err := topics.Next()
	check(t, err)
	if topic.Name != b.topic {
		t.Fatalf("listed %s, not %s", topic.Name, b.topic)
	}
}

func TestARecreatedSubscriptionStartsEmpty(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createSubscription("again", 60)
	b.publish(3)
	old := b.pullSome(subscription, 1)
	check(t, b.client.SubscriptionAdminClient.DeleteSubscription(b.ctx,
		&pubsubpb.DeleteSubscriptionRequest{Subscription: subscription}))
	b.createSubscription("again", 60)
	if len(b.pull(subscription, 10, true)) > 0 {
		t.Fatal("a message of its first life was delivered")
	}
	ids := b.publish(1)
	received := b.pullSome(subscription, 1)
	b.acknowledge(subscription, ackIDs(old)) // of the first life: accepted, without effect
	b.giveUp(subscription, ackIDs(received))
	if !maps.Equal(messageIDs(b.pullSome(subscription, 1)), ids) {
		t.Fatal("an ack id of its first life acknowledged a message of the second")
	}
}

func TestASubscriptionKeepsItsBacklogWhenItsTopicIsDeletedAndRecreated(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	old := b.createSubscription("old", 60)
	before := b.publish(3)
	check(t, b.client.TopicAdminClient.DeleteTopic(b.ctx, &pubsubpb.DeleteTopicRequest{Topic: b.topic}))
	found, err := b.client.SubscriptionAdminClient.GetSubscription(b.ctx, &pubsubpb.GetSubscriptionRequest{Subscription: old})
	check(t, err)
	if found.Topic != "_deleted-topic_" {
		t.Fatalf("its topic reads %s", found.Topic)
	}
	b.createTopic()
	recreated := b.createSubscription("new", 60)
	after := b.publish(2)
	if got := messageIDs(b.pullSome(old, 3)); !maps.Equal(got, before) || len(b.pull(old, 10, true)) > 0 {
		t.Fatalf("the old subscription got %v, want %v and nothing else", got, before)
	}
	if got := messageIDs(b.pullSome(recreated, 2)); !maps.Equal(got, after) {
		t.Fatalf("the new subscription got %v, want %v", got, after)
	}
}

package clients

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

const (
	project   = "client-tests"
	waitLimit = 120 * time.Second
)

var long = os.Getenv("PACKETBOAT_LONG") == "1"

// environment guards PUBSUB_EMULATOR_HOST, which is the process's while the tests run side by side.
var environment sync.Mutex

// bench is a running server, the official client at its default settings, and one topic.
type bench struct {
	*testing.T
	ctx    context.Context
	server *server
	client *pubsub.Client
	topic  string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	s := startServer(t)
	limit := 5 * time.Minute
	if long {
		limit = 40 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	environment.Lock()
	defer environment.Unlock()
	check(t, os.Setenv("PUBSUB_EMULATOR_HOST", s.host))
	client, err := pubsub.NewClient(ctx, project)
	check(t, err)
	t.Cleanup(func() { client.Close(); cancel() })
	b := &bench{t, ctx, s, client, "projects/" + project + "/topics/letters"}
	b.createTopic()
	return b
}

func (b *bench) createTopic() {
	b.Helper()
	_, err := b.client.TopicAdminClient.CreateTopic(b.ctx, &pubsubpb.Topic{Name: b.topic})
	check(b.T, err)
}

func (b *bench) createSubscription(name string, ackDeadlineSeconds int32) string {
	b.Helper()
	return b.createSubscriptionWith(name, &pubsubpb.Subscription{AckDeadlineSeconds: ackDeadlineSeconds})
}

// createSubscriptionWith creates one with these settings, whose name and topic it fills in.
func (b *bench) createSubscriptionWith(name string, settings *pubsubpb.Subscription) string {
	b.Helper()
	settings.Name, settings.Topic = "projects/"+project+"/subscriptions/"+name, b.topic
	_, err := b.client.SubscriptionAdminClient.CreateSubscription(b.ctx, settings)
	check(b.T, err)
	return settings.Name
}

// publish sends small messages, numbered from 0, and returns their ids.
func (b *bench) publish(count int) map[string]bool {
	b.Helper()
	publisher := b.client.Publisher(b.topic)
	defer publisher.Stop()
	var results []*pubsub.PublishResult
	for number := range count {
		results = append(results, publisher.Publish(b.ctx, &pubsub.Message{
			Data: fmt.Appendf(nil, "letter %d", number), Attributes: map[string]string{"number": strconv.Itoa(number)},
		}))
	}
	ids := map[string]bool{}
	for _, result := range results {
		id, err := result.Get(b.ctx)
		check(b.T, err)
		ids[id] = true
	}
	return ids
}

func (b *bench) pull(subscription string, maxMessages int, atOnce bool) []*pubsubpb.ReceivedMessage {
	b.Helper()
	response, err := b.client.SubscriptionAdminClient.Pull(b.ctx, &pubsubpb.PullRequest{
		Subscription: subscription, MaxMessages: int32(maxMessages), ReturnImmediately: atOnce,
	})
	check(b.T, err)
	return response.ReceivedMessages
}

// pullSome long-polls until count messages have come.
func (b *bench) pullSome(subscription string, count int) []*pubsubpb.ReceivedMessage {
	b.Helper()
	var received []*pubsubpb.ReceivedMessage
	for limit := time.Now().Add(waitLimit); len(received) < count; {
		if time.Now().After(limit) {
			b.Fatalf("%d of %d messages came", len(received), count)
		}
		received = append(received, b.pull(subscription, count-len(received), false)...)
	}
	return received
}

func (b *bench) acknowledge(subscription string, ackIDs []string) {
	b.Helper()
	check(b.T, b.client.SubscriptionAdminClient.Acknowledge(b.ctx, &pubsubpb.AcknowledgeRequest{
		Subscription: subscription, AckIds: ackIDs,
	}))
}

func (b *bench) giveUp(subscription string, ackIDs []string) {
	b.Helper()
	for start := 0; start < len(ackIDs); start += 1000 {
		check(b.T, b.client.SubscriptionAdminClient.ModifyAckDeadline(b.ctx, &pubsubpb.ModifyAckDeadlineRequest{
			Subscription: subscription, AckIds: ackIDs[start:min(start+1000, len(ackIDs))],
		}))
	}
}

// wantAllAcknowledged gives up every lease that was handed out: what was not acknowledged would come at once.
func (b *bench) wantAllAcknowledged(subscription string, ackIDs []string) {
	b.Helper()
	b.giveUp(subscription, ackIDs)
	if left := b.pull(subscription, 1000, true); len(left) > 0 {
		b.Fatalf("%d messages came again after their ack, e.g. %s", len(left), left[0].Message.MessageId)
	}
}

// receive runs the streaming subscriber until the returned function is called, which waits for its end.
func (b *bench) receive(subscription string, settings func(*pubsub.ReceiveSettings),
	callback func(*pubsub.Message),
) (stop func()) {
	ctx, cancel := context.WithCancel(b.ctx)
	subscriber := b.client.Subscriber(subscription)
	if settings != nil {
		settings(&subscriber.ReceiveSettings)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- subscriber.Receive(ctx, func(_ context.Context, message *pubsub.Message) { callback(message) })
	}()
	return func() {
		b.Helper()
		select {
		case err := <-ended:
			b.Fatalf("the stream ended by itself: %v", err)
		default:
		}
		cancel()
		check(b.T, <-ended)
	}
}

func (b *bench) waitUntil(condition func() bool, what func() string) {
	b.Helper()
	for limit := time.Now().Add(waitLimit); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			b.Fatalf("after %v: %s", waitLimit, what())
		}
	}
}

func ackIDs(received []*pubsubpb.ReceivedMessage) (ids []string) {
	for _, one := range received {
		ids = append(ids, one.AckId)
	}
	return ids
}

func messageIDs(received []*pubsubpb.ReceivedMessage) map[string]bool {
	ids := map[string]bool{}
	for _, one := range received {
		ids[one.Message.MessageId] = true
	}
	return ids
}

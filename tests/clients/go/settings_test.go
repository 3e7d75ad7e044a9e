package clients

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func retryPolicy(minimum, maximum time.Duration) *pubsubpb.RetryPolicy {
	return &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(minimum), MaximumBackoff: durationpb.New(maximum)}
}

func TestAFilteredSubscriptionGetsWhatMatchesAndHasNoOtherBacklog(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	bills := b.createSubscriptionWith("bills",
		&pubsubpb.Subscription{Filter: `attributes.kind = "bill" AND NOT attributes:draft`})
	publisher := b.client.Publisher(b.topic)
	defer publisher.Stop()
	kinds := []map[string]string{{"kind": "bill"}, {"kind": "offer"}, {"kind": "bill", "draft": ""}, nil}
	wanted := map[string]bool{}
	for range 50 {
		var results []*pubsub.PublishResult
		for _, attributes := range kinds {
			results = append(results, publisher.Publish(b.ctx, &pubsub.Message{Data: []byte("letter"), Attributes: attributes}))
		}
		for kind, result := range results {
			id, err := result.Get(b.ctx)
			check(t, err)
			if kind == 0 {
				wanted[id] = true
			}
		}
	}
	var lock sync.Mutex
	came, wrong := map[string]bool{}, 0
	stop := b.receive(bills, nil, func(message *pubsub.Message) {
		lock.Lock()
		defer lock.Unlock()
		if !wanted[message.ID] {
			wrong++
		}
		came[message.ID] = true
		message.Ack()
	})
	b.waitUntil(func() bool {
		lock.Lock()
		defer lock.Unlock()
		return len(came) >= len(wanted)
	}, func() string { return fmt.Sprintf("%d of %d messages came", len(came), len(wanted)) })
	stop()
	if wrong > 0 || len(b.pull(bills, 10, true)) > 0 {
		t.Fatalf("%d messages came that do not match, or some were left", wrong)
	}
	_, err := b.client.SubscriptionAdminClient.CreateSubscription(b.ctx, &pubsubpb.Subscription{
		Name: bills + "-wrong", Topic: b.topic, Filter: "attributes.kind = bill",
	})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "Invalid filter") {
		t.Fatalf("a wrong filter was answered with %v", err)
	}
}

func TestANackedMessageWaitsForItsBackoff(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createSubscriptionWith("retried",
		&pubsubpb.Subscription{RetryPolicy: retryPolicy(time.Second, 2*time.Second)})
	var lock sync.Mutex
	var times []time.Time
	stop := b.receive(subscription, nil, func(message *pubsub.Message) {
		lock.Lock()
		defer lock.Unlock()
		times = append(times, time.Now())
		if len(times) < 4 {
			message.Nack()
		} else {
			message.Ack()
		}
	})
	b.publish(1)
	b.waitUntil(func() bool {
		lock.Lock()
		defer lock.Unlock()
		return len(times) >= 4
	}, func() string { return fmt.Sprintf("it came %d times", len(times)) })
	stop()
	for attempt, least := range []time.Duration{time.Second, 2 * time.Second, 2 * time.Second} {
		if waited := times[attempt+1].Sub(times[attempt]); waited < least {
			t.Fatalf("after nack %d it came again in %v, not after %v", attempt+1, waited, least)
		}
	}
}

func TestAMessageInItsBackoffHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createSubscriptionWith("waiting",
		&pubsubpb.Subscription{RetryPolicy: retryPolicy(600*time.Second, 600*time.Second)})
	var lock sync.Mutex
	deliveries := map[string]int{}
	var nacked string
	stop := b.receive(subscription, nil, func(message *pubsub.Message) {
		lock.Lock()
		defer lock.Unlock()
		deliveries[message.ID]++
		if message.ID == nacked || nacked == "" {
			nacked = message.ID
			message.Nack()
			return
		}
		message.Ack()
	})
	came := func(count int) func() bool {
		return func() bool {
			lock.Lock()
			defer lock.Unlock()
			return len(deliveries) >= count
		}
	}
	what := func() string { return fmt.Sprintf("these came: %v", deliveries) }
	b.publish(1)
	b.waitUntil(came(1), what)
	b.publish(10)
	b.waitUntil(came(11), what)
	stop()
	if deliveries[nacked] != 1 || len(b.pull(subscription, 10, true)) > 0 {
		t.Fatalf("the nacked message came %d times, or something was left", deliveries[nacked])
	}
}

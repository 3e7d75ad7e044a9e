package clients

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
)

const ackDeadline = 10 * time.Second

func isPaused(err error) bool {
	var paused pubsub.ErrPublishingPaused
	return errors.As(err, &paused)
}

func TestANackedMessageIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createSubscription("nacked", 600)
	var lock sync.Mutex
	deliveries, acked := map[string]int{}, 0
	stop := b.receive(subscription, nil, func(message *pubsub.Message) {
		lock.Lock()
		defer lock.Unlock()
		deliveries[message.ID]++
		if deliveries[message.ID] == 1 {
			message.Nack()
			return
		}
		acked++
		message.Ack()
	})
	ids := b.publish(50)
	b.waitUntil(func() bool {
		lock.Lock()
		defer lock.Unlock()
		return acked >= len(ids)
	}, func() string { return fmt.Sprintf("deliveries by message: %v", deliveries) })
	stop()
	for id := range ids {
		if deliveries[id] != 2 {
			t.Fatalf("message %s was delivered %d times, not twice", id, deliveries[id])
		}
	}
	if left := b.pull(subscription, 100, true); len(left) > 0 {
		t.Fatalf("%d messages came again after their ack", len(left))
	}
}

func TestMessagesOfAClientThatVanishesComeAgainAfterTheAckDeadline(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createSubscription("abandoned", int32(ackDeadline/time.Second))
	ids := b.publish(5)
	askedAt := time.Now()
	first := b.pullSome(subscription, 5)
	pulledAt := time.Now()
	if len(b.pull(subscription, 10, true)) > 0 {
		t.Fatal("a leased message was delivered to another client")
	}
	again := b.pullSome(subscription, 5)
	if !maps.Equal(messageIDs(first), ids) || !maps.Equal(messageIDs(again), ids) {
		t.Fatalf("published %v, got %v and again %v", ids, messageIDs(first), messageIDs(again))
	}
	if time.Since(askedAt) < ackDeadline || time.Since(pulledAt) > ackDeadline+5*time.Second {
		t.Fatalf("redelivered %v after the pull, with an ack deadline of %v", time.Since(pulledAt), ackDeadline)
	}
	b.acknowledge(subscription, ackIDs(again))
	b.wantAllAcknowledged(subscription, append(ackIDs(first), ackIDs(again)...))
}

func TestACallbackLongerThanTheAckDeadlineKeepsItsMessage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createSubscription("slow", int32(ackDeadline/time.Second))
	var begun, done atomic.Int32
	stop := b.receive(subscription, nil, func(message *pubsub.Message) {
		begun.Add(1)
		time.Sleep(ackDeadline * 5 / 2) // the work that takes long
		message.Ack()
		done.Add(1)
	})
	b.publish(1)
	b.waitUntil(func() bool { return done.Load() > 0 }, func() string { return "the callback has not ended" })
	stop()
	if begun.Load() != 1 {
		t.Fatalf("it was delivered %d times while its lease was extended", begun.Load())
	}
	if left := b.pull(subscription, 10, true); len(left) > 0 {
		t.Fatal("the message came again after its ack")
	}
}

func TestASubscriberNeverHoldsMoreThanItsFlowControlAllows(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createSubscription("paced", 60)
	b.publish(100)
	var held, most, acked atomic.Int32
	released := make(chan struct{})
	stop := b.receive(subscription, func(settings *pubsub.ReceiveSettings) {
		settings.MaxOutstandingMessages = 5
		settings.EnablePerStreamFlowControl = true // the server enforces it too
	}, func(message *pubsub.Message) {
		now := held.Add(1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		<-released
		held.Add(-1)
		message.Ack()
		acked.Add(1)
	})
	b.waitUntil(func() bool { return held.Load() == 5 }, func() string { return fmt.Sprintf("it holds %d", held.Load()) })
	others := b.pullSome(subscription, 95) // nothing waits inside that client
	b.giveUp(subscription, ackIDs(others))
	close(released)
	b.waitUntil(func() bool { return acked.Load() >= 100 }, func() string { return fmt.Sprintf("%d of 100 came", acked.Load()) })
	stop()
	if most.Load() != 5 {
		t.Fatalf("it held %d messages at once, with a limit of 5", most.Load())
	}
	b.wantAllAcknowledged(subscription, ackIDs(others))
}

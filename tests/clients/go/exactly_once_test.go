package clients

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	exactlyOnceBetweenKills = 200
	// The longest that a callback works on a message, so that some are held when the server is killed.
	exactlyOnceWorkMax = 500 * time.Millisecond
	// The most that this client puts into one request.
	ackIDsInARequest = 1000
)

// consumer acknowledges every message with a response, and notes what must not happen.
type consumer struct {
	sync.Mutex
	held, acked     map[string]bool
	doubled, undone []string
	statuses        map[pubsub.AcknowledgeStatus]int
	failed          error
}

func newConsumer() *consumer {
	return &consumer{
		held: map[string]bool{}, acked: map[string]bool{}, statuses: map[pubsub.AcknowledgeStatus]int{},
	}
}

func (c *consumer) receive(ctx context.Context, message *pubsub.Message) {
	c.hold(message.ID)
	time.Sleep(rand.N(exactlyOnceWorkMax))
	answer, err := message.AckWithResult().Get(ctx)
	c.Lock()
	defer c.Unlock()
	delete(c.held, message.ID)
	c.statuses[answer]++
	if err != nil {
		c.failed = errors.Join(c.failed, err)
	} else if answer == pubsub.AcknowledgeStatusSuccess {
		c.acked[message.ID] = true
	}
}

func (c *consumer) hold(id string) {
	c.Lock()
	defer c.Unlock()
	if c.held[id] {
		c.doubled = append(c.doubled, id)
	}
	if c.acked[id] {
		c.undone = append(c.undone, id)
	}
	c.held[id] = true
}

func (c *consumer) countAcked() int {
	c.Lock()
	defer c.Unlock()
	return len(c.acked)
}

func (c *consumer) describe() string {
	c.Lock()
	defer c.Unlock()
	return fmt.Sprintf("%d are acknowledged; statuses %v, %v", len(c.acked), c.statuses, c.failed)
}

func (b *bench) createExactlyOnce() string {
	b.Helper()
	return b.createSubscriptionWith("exactly-once", &pubsubpb.Subscription{
		EnableExactlyOnceDelivery: true, AckDeadlineSeconds: 600,
	})
}

func TestWhatWasAcknowledgedWithSuccessStaysSoWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	b, kills := newBench(t), 3
	if long {
		kills = 20
	}
	subscription, c := b.createExactlyOnce(), newConsumer()
	stop := b.receive(subscription, nil, func(message *pubsub.Message) { c.receive(b.ctx, message) })
	published := map[string]bool{}
	for range kills {
		for id := range b.publish(exactlyOnceBetweenKills) {
			published[id] = true
		}
		acked := c.countAcked()
		b.waitUntil(func() bool { return c.countAcked() > acked }, c.describe)
		b.server.kill()
		b.server.start()
	}
	b.waitUntil(func() bool { return c.countAcked() >= len(published) }, c.describe)
	stop()
	for id := range published {
		if !c.acked[id] {
			t.Fatalf("message %s was never acknowledged: %s", id, c.describe())
		}
	}
	if len(c.undone) > 0 || len(c.doubled) > 0 {
		t.Fatalf("%d messages came again after their ack, %d while they were held", len(c.undone), len(c.doubled))
	}
	if c.failed != nil || len(c.statuses) != 1 {
		t.Fatalf("not every ack succeeded: %s", c.describe())
	}
}

// wantFailed checks that an answer names these ack ids as invalid, and no other.
func (b *bench) wantFailed(err error, ackIDs []string) {
	b.Helper()
	failure, ok := apierror.FromError(err)
	if !ok || status.Code(err) != codes.InvalidArgument {
		b.Fatalf("want INVALID_ARGUMENT, got %v", err)
	}
	if failure.Reason() != "EXACTLY_ONCE_ACKID_FAILURE" || failure.Domain() != "pubsub.googleapis.com" {
		b.Fatalf("the reason is %s of %s", failure.Reason(), failure.Domain())
	}
	wanted := map[string]string{}
	for _, ackID := range ackIDs {
		wanted[ackID] = "PERMANENT_FAILURE_INVALID_ACK_ID"
	}
	if !maps.Equal(failure.Metadata(), wanted) {
		b.Fatalf("want %d failed ids, got %d: %v", len(wanted), len(failure.Metadata()), failure.Metadata())
	}
}

func (b *bench) tryAcknowledge(subscription string, ackIDs []string) error {
	return b.client.SubscriptionAdminClient.Acknowledge(b.ctx,
		&pubsubpb.AcknowledgeRequest{Subscription: subscription, AckIds: ackIDs})
}

func TestAnAckAfterTheDeadlineFailsByNameAndTheRestOfItsRequestIsApplied(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createExactlyOnce()
	b.publish(2)
	ids := ackIDs(b.pullSome(subscription, 2))
	late, valid := ids[:1], ids[1:]
	b.giveUp(subscription, late)
	b.wantFailed(b.tryAcknowledge(subscription, ids), late)
	b.acknowledge(subscription, valid)
	again := b.pullSome(subscription, 1)
	if slices.Contains(ids, again[0].AckId) {
		t.Fatal("the message came again with an ack id of its last delivery")
	}
	b.acknowledge(subscription, ackIDs(again))
	if left := b.pull(subscription, 10, true); len(left) > 0 {
		t.Fatalf("%d messages came again after their ack", len(left))
	}
}

func TestAsManyFailedAckIDsAsAClientSendsArriveWhole(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createExactlyOnce()
	b.publish(ackIDsInARequest)
	ids := ackIDs(b.pullSome(subscription, ackIDsInARequest))
	b.giveUp(subscription, ids)
	b.wantFailed(b.tryAcknowledge(subscription, ids), ids)
}

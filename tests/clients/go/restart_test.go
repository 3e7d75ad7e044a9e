package clients

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// What must have been answered since the last start before the next kill.
	publishedBetweenKills = 1000
	ackedBetweenKills     = 200
	inFlightMax           = 500
	aheadMax              = 5000 // of the slower subscription
)

// history is what the clients saw, by message id.
type history struct {
	sync.Mutex
	answered, streamed, acked map[string]bool
	ackIDs, undone            []string
	failed                    error
}

func (h *history) fail(err error) {
	h.Lock()
	defer h.Unlock()
	h.failed = err
}

func (h *history) counts() (answered, streamed, acked int) {
	h.Lock()
	defer h.Unlock()
	return len(h.answered), len(h.streamed), len(h.acked)
}

func (h *history) hasFailed() bool {
	h.Lock()
	defer h.Unlock()
	return h.failed != nil
}

// missing counts the answered publishes that one of the subscriptions has not received.
func (h *history) missing() (fromStream, fromPulls int) {
	h.Lock()
	defer h.Unlock()
	for id := range h.answered {
		if !h.streamed[id] {
			fromStream++
		}
		if !h.acked[id] {
			fromPulls++
		}
	}
	return fromStream, fromPulls
}

func (b *bench) publishUntil(ctx context.Context, h *history) {
	publisher := b.client.Publisher(b.topic)
	defer publisher.Stop()
	room := make(chan struct{}, inFlightMax)
	var pending sync.WaitGroup
	defer pending.Wait()
	for ctx.Err() == nil {
		if answered, streamed, acked := h.counts(); answered > min(streamed, acked)+aheadMax {
			time.Sleep(time.Millisecond)
			continue
		}
		room <- struct{}{}
		result := publisher.Publish(b.ctx, &pubsub.Message{Data: content(1, 400)})
		pending.Go(func() {
			defer func() { <-room }()
			id, err := result.Get(b.ctx)
			if b.ctx.Err() == nil && gaveUp(err) {
				return // it tries again later and later, and no more after a minute: nothing was answered
			}
			if err != nil { // the client retries what may be retried
				h.fail(fmt.Errorf("publish: %w", err))
				return
			}
			h.Lock()
			defer h.Unlock()
			h.answered[id] = true
		})
	}
}

// gaveUp says whether the client's own time for an answer was over.
func gaveUp(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
}

func (b *bench) pullUntil(ctx context.Context, subscription string, h *history) {
	for ctx.Err() == nil {
		err := b.pullAndAcknowledge(subscription, h)
		switch code := status.Code(err); {
		case code == codes.Unavailable || code == codes.DeadlineExceeded:
			time.Sleep(20 * time.Millisecond)
		case err != nil:
			h.fail(fmt.Errorf("pull or acknowledge: %w", err))
			return
		}
	}
}

func (b *bench) pullAndAcknowledge(subscription string, h *history) error {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	response, err := b.client.SubscriptionAdminClient.Pull(ctx,
		&pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 50})
	if err != nil || len(response.ReceivedMessages) == 0 {
		return err
	}
	received := response.ReceivedMessages
	h.Lock()
	for _, one := range received {
		if h.acked[one.Message.MessageId] {
			h.undone = append(h.undone, one.Message.MessageId)
		}
	}
	h.Unlock()
	err = b.client.SubscriptionAdminClient.Acknowledge(b.ctx,
		&pubsubpb.AcknowledgeRequest{Subscription: subscription, AckIds: ackIDs(received)})
	if err != nil {
		return err
	}
	h.Lock()
	defer h.Unlock()
	for _, one := range received {
		h.acked[one.Message.MessageId] = true
		h.ackIDs = append(h.ackIDs, one.AckId)
	}
	return nil
}

func TestNothingAnsweredIsLostOrUndoneWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	b, kills := newBench(t), 1
	if long {
		kills = 20
	}
	streamed, pulled := b.createSubscription("streamed", 10), b.createSubscription("pulled", 10)
	h := &history{answered: map[string]bool{}, streamed: map[string]bool{}, acked: map[string]bool{}}
	stopReceiving := b.receive(streamed, nil, func(message *pubsub.Message) {
		h.Lock()
		defer h.Unlock()
		h.streamed[message.ID] = true
		message.Ack()
	})
	publishing, stopPublishing := context.WithCancel(b.ctx)
	pulling, stopPulling := context.WithCancel(b.ctx)
	var publisher, puller sync.WaitGroup
	publisher.Go(func() { b.publishUntil(publishing, h) })
	puller.Go(func() { b.pullUntil(pulling, pulled, h) })
	defer puller.Wait()
	defer publisher.Wait()
	defer stopPulling()
	defer stopPublishing()

	for range kills {
		answeredBefore, streamedBefore, ackedBefore := h.counts()
		b.waitUntil(func() bool {
			answered, streamed, acked := h.counts()
			return h.hasFailed() || answered >= answeredBefore+publishedBetweenKills &&
				acked >= ackedBefore+ackedBetweenKills && streamed > streamedBefore
		}, func() string {
			answered, streamed, acked := h.counts()
			return fmt.Sprintf("%d published, %d acknowledged, %d streamed since the last start",
				answered-answeredBefore, acked-ackedBefore, streamed-streamedBefore)
		})
		b.server.kill()
		b.server.start()
	}
	_, _, ackedBefore := h.counts()
	b.waitUntil(func() bool {
		_, _, acked := h.counts()
		return acked > ackedBefore || h.hasFailed()
	}, func() string { return "no pull works after the restart" })
	stopPublishing()
	publisher.Wait()
	b.waitUntil(func() bool {
		fromStream, fromPulls := h.missing()
		return fromStream+fromPulls == 0 || h.hasFailed()
	}, func() string {
		fromStream, fromPulls := h.missing()
		return fmt.Sprintf("answered publishes are missing: %d from the stream, %d from the pulls", fromStream, fromPulls)
	})
	stopPulling()
	puller.Wait()
	stopReceiving()
	check(t, h.failed)
	if len(h.undone) > 0 {
		t.Fatalf("%d messages came again after their ack was answered", len(h.undone))
	}
	b.wantAllAcknowledged(pulled, h.ackIDs)
}

package clients

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	orderingKeys       = 16
	messagesOfEachKey  = 60
	orderedBeforeKills = 200 // received since the last start
	orderedAheadMax    = 500
)

// arrivals are the numbers that came, by ordering key, each where it first came.
type arrivals struct {
	sync.Mutex
	numbers map[string][]int
	count   int
	failed  error
}

func newArrivals() *arrivals { return &arrivals{numbers: map[string][]int{}} }

func (a *arrivals) add(message *pubsub.Message) {
	a.Lock()
	defer a.Unlock()
	number, err := strconv.Atoi(string(message.Data))
	if err != nil {
		a.failed = err
	} else if !slices.Contains(a.numbers[message.OrderingKey], number) {
		a.numbers[message.OrderingKey] = append(a.numbers[message.OrderingKey], number)
		a.count++
	}
}

func (a *arrivals) total() int {
	a.Lock()
	defer a.Unlock()
	return a.count
}

// wantInOrder waits for all of them, and checks that each key's came in order.
func (a *arrivals) wantInOrder(b *bench, counts map[string]int) {
	b.Helper()
	wanted := 0
	for _, count := range counts {
		wanted += count
	}
	b.waitUntil(func() bool { return a.total() >= wanted },
		func() string { return fmt.Sprintf("%d of %d messages came", a.total(), wanted) })
	a.Lock()
	defer a.Unlock()
	check(b.T, a.failed)
	for key, count := range counts {
		if len(a.numbers[key]) != count || !slices.IsSorted(a.numbers[key]) {
			b.Fatalf("want %d messages of %s in order, got %v", count, key, a.numbers[key])
		}
	}
}

// orderingPublisher is the client's at its defaults, but for what ordering needs.
func (b *bench) orderingPublisher() *pubsub.Publisher {
	publisher := b.client.Publisher(b.topic)
	publisher.EnableMessageOrdering = true
	b.Cleanup(publisher.Stop)
	return publisher
}

// receiveInto acknowledges what comes, and notes its order.
func (b *bench) receiveInto(subscription string, a *arrivals) (stop func()) {
	return b.receive(subscription, nil, func(message *pubsub.Message) {
		a.add(message)
		message.Ack()
	})
}

func orderingKey(number int) string { return fmt.Sprintf("key-%d", number) }

func TestMessagesOfEachKeyComeInTheOrderInWhichTheyWerePublished(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createSubscriptionWith("ordered", &pubsubpb.Subscription{EnableMessageOrdering: true})
	publisher, counts := b.orderingPublisher(), map[string]int{}
	var results []*pubsub.PublishResult
	for number := range messagesOfEachKey {
		for key := range orderingKeys {
			counts[orderingKey(key)] = messagesOfEachKey
			results = append(results, publisher.Publish(b.ctx,
				&pubsub.Message{Data: fmt.Append(nil, number), OrderingKey: orderingKey(key)}))
		}
	}
	for _, result := range results {
		_, err := result.Get(b.ctx)
		check(t, err)
	}
	arrived := newArrivals()
	stop := b.receiveInto(subscription, arrived)
	arrived.wantInOrder(b, counts)
	stop()
}

func TestPublishingOfAKeyIsResumedAfterAnError(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.topic += "-to-come"
	publisher := b.orderingPublisher()
	publish := func(number int) *pubsub.PublishResult {
		return publisher.Publish(b.ctx, &pubsub.Message{Data: fmt.Append(nil, number), OrderingKey: "key"})
	}
	if _, err := publish(0).Get(b.ctx); status.Code(err) != codes.NotFound {
		t.Fatalf("the topic does not exist, but publishing answered %v", err)
	}
	b.createTopic()
	subscription := b.createSubscriptionWith("resumed", &pubsubpb.Subscription{EnableMessageOrdering: true})
	if _, err := publish(0).Get(b.ctx); !isPaused(err) {
		t.Fatalf("want the key paused, got %v", err)
	}
	publisher.ResumePublish("key")
	var results []*pubsub.PublishResult
	for number := range 20 {
		results = append(results, publish(number))
	}
	for _, result := range results {
		_, err := result.Get(b.ctx)
		check(t, err)
	}
	arrived := newArrivals()
	stop := b.receiveInto(subscription, arrived)
	arrived.wantInOrder(b, map[string]int{"key": 20})
	stop()
}

func TestANackBringsBackWhatFollowsInItsKeyAndHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createSubscriptionWith("nacked", &pubsubpb.Subscription{EnableMessageOrdering: true})
	publisher, counts := b.orderingPublisher(), map[string]int{"nacked": 10, "other": 10}
	for number := range 10 {
		for key := range counts {
			_, err := publisher.Publish(b.ctx, &pubsub.Message{Data: fmt.Append(nil, number), OrderingKey: key}).Get(b.ctx)
			check(t, err)
		}
	}
	arrived := newArrivals()
	var deliveries atomic.Int32
	stop := b.receive(subscription, nil, func(message *pubsub.Message) {
		arrived.add(message)
		if message.OrderingKey == "nacked" && string(message.Data) == "3" && deliveries.Add(1) <= 5 {
			message.Nack()
			return
		}
		message.Ack()
	})
	b.waitUntil(func() bool { return deliveries.Load() >= 6 },
		func() string { return fmt.Sprintf("the nacked message came %d times", deliveries.Load()) })
	arrived.wantInOrder(b, counts)
	stop()
}

// orderedPublishing publishes keys side by side, each key's numbers going up by one.
type orderedPublishing struct {
	sync.Mutex
	counts map[string]int
	total  int
	failed error
}

func (p *orderedPublishing) run(ctx context.Context, b *bench, arrived *arrivals) {
	publisher := b.orderingPublisher()
	var pending sync.WaitGroup
	defer pending.Wait()
	for key := range orderingKeys {
		pending.Go(func() {
			for again := false; again || ctx.Err() == nil; {
				next, ahead := p.progress(orderingKey(key), arrived)
				if ahead && !again {
					time.Sleep(time.Millisecond)
					continue
				}
				var err error
				if again, err = p.publishSome(b, publisher, orderingKey(key), next); err != nil {
					p.fail(err)
					return
				}
			}
		})
	}
}

// publishSome says whether the client gave up some of it, stored or not, so that it has to be published again.
func (p *orderedPublishing) publishSome(b *bench, publisher *pubsub.Publisher, key string, next int) (bool, error) {
	var results []*pubsub.PublishResult
	for number := next; number < next+4; number++ {
		message := &pubsub.Message{Data: fmt.Append(nil, number), OrderingKey: key}
		results = append(results, publisher.Publish(b.ctx, message))
	}
	var failed error
	for _, result := range results {
		_, err := result.Get(b.ctx)
		if err != nil && failed == nil {
			failed = err
		} else if failed == nil {
			p.count(key)
		}
	}
	if b.ctx.Err() != nil || !gaveUp(failed) {
		return false, failed
	}
	publisher.ResumePublish(key)
	return true, nil
}

func (p *orderedPublishing) progress(key string, arrived *arrivals) (next int, ahead bool) {
	p.Lock()
	defer p.Unlock()
	return p.counts[key], p.total > arrived.total()+orderedAheadMax
}

func (p *orderedPublishing) count(key string) {
	p.Lock()
	defer p.Unlock()
	p.counts[key]++
	p.total++
}

func (p *orderedPublishing) fail(err error) {
	p.Lock()
	defer p.Unlock()
	p.failed = fmt.Errorf("publish: %w", err)
}

func TestKeysKeepTheirOrderWhileTheServerIsKilled(t *testing.T) {
	t.Parallel()
	b, kills := newBench(t), 2
	if long {
		kills = 20
	}
	subscription := b.createSubscriptionWith("killed", &pubsubpb.Subscription{EnableMessageOrdering: true})
	arrived, publishing := newArrivals(), &orderedPublishing{counts: map[string]int{}}
	stopReceiving := b.receiveInto(subscription, arrived)
	ctx, stopPublishing := context.WithCancel(b.ctx)
	var publisher sync.WaitGroup
	publisher.Go(func() { publishing.run(ctx, b, arrived) })
	defer publisher.Wait()
	defer stopPublishing()
	for range kills {
		wanted := arrived.total() + orderedBeforeKills
		b.waitUntil(func() bool { return arrived.total() >= wanted },
			func() string { return fmt.Sprintf("%d of %d messages came", arrived.total(), wanted) })
		b.server.kill()
		b.server.start()
	}
	stopPublishing()
	publisher.Wait()
	check(t, publishing.failed)
	arrived.wantInOrder(b, publishing.counts)
	stopReceiving()
}

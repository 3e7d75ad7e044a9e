package clients

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"
)

const (
	largeCount = 20
	totalBytes = 200_000_000
)

var noise = func() []byte {
	chance, buffer := rand.NewChaCha8([32]byte{7}), make([]byte, 12_000_000)
	_, _ = chance.Read(buffer)
	return buffer
}()

func messageCount() int {
	if long {
		return 50_000
	}
	return 10_000
}

// content is size bytes that belong to the message of this number.
func content(number, size int) []byte {
	start := number * 7919 % (len(noise) - size)
	return noise[start : start+size]
}

// sizes are 200 MB in all: twenty from 1 to 9 MB, one in fifty medium, the rest under 10 KB.
func sizes(count int) []int {
	chance := rand.New(rand.NewPCG(uint64(count), 1))
	every, sum := make([]int, 0, count), 0
	for index := range largeCount {
		every = append(every, 1_000_000+index*8_000_000/(largeCount-1))
	}
	for len(every) < count-count/50 {
		every = append(every, 1+chance.IntN(9_999))
	}
	for _, size := range every {
		sum += size
	}
	medium := max(10_000, (totalBytes-sum)/(count/50))
	for len(every) < count {
		every = append(every, medium)
	}
	chance.Shuffle(count, func(i, j int) { every[i], every[j] = every[j], every[i] })
	return every
}

func (b *bench) publishSizes(every []int) map[string]int {
	b.Helper()
	publisher := b.client.Publisher(b.topic)
	defer publisher.Stop()
	results := make([]*pubsub.PublishResult, len(every))
	for number, size := range every {
		results[number] = publisher.Publish(b.ctx, &pubsub.Message{
			Data: content(number, size), Attributes: map[string]string{"number": strconv.Itoa(number)},
		})
	}
	ids := map[string]int{}
	for number, result := range results {
		id, err := result.Get(b.ctx)
		check(b.T, err)
		ids[id] = number
	}
	if len(ids) != len(every) {
		b.Fatal("a message id was given twice")
	}
	return ids
}

func verify(attributes map[string]string, data []byte, every []int) (int, error) {
	number, err := strconv.Atoi(attributes["number"])
	if err == nil && !bytes.Equal(data, content(number, every[number])) {
		err = fmt.Errorf("message %d was altered", number)
	}
	return number, err
}

func TestTenThousandMessagesOf200MBArriveByStreaming(t *testing.T) {
	t.Parallel()
	b, every := newBench(t), sizes(messageCount())
	subscription := b.createSubscription("streamed", 10)
	var lock sync.Mutex
	seen, deliveries, faults := map[int]bool{}, 0, []error{}
	stop := b.receive(subscription, nil, func(message *pubsub.Message) {
		number, err := verify(message.Attributes, message.Data, every)
		lock.Lock()
		defer lock.Unlock()
		if err != nil {
			faults = append(faults, err)
			return
		}
		seen[number] = true
		deliveries++
		message.Ack()
	})
	b.publishSizes(every)
	b.waitUntil(func() bool {
		lock.Lock()
		defer lock.Unlock()
		return len(seen) == len(every) || len(faults) > 0
	}, func() string { return fmt.Sprintf("%d of %d messages came", len(seen), len(every)) })
	stop()
	if len(faults) > 0 {
		t.Fatal(faults[0])
	}
	// At-least-once: a lease may run out on a busy machine, but not many.
	if again := deliveries - len(every); again > len(every)/100 {
		t.Fatalf("%d of %d messages came twice", again, len(every))
	}
	if left := b.pull(subscription, 1000, true); len(left) > 0 {
		t.Fatalf("%d messages came again after their ack", len(left))
	}
}

func TestTenThousandMessagesOf200MBArriveByPull(t *testing.T) {
	t.Parallel()
	b, every := newBench(t), sizes(messageCount())
	// Nobody extends these leases, and on a busy machine a batch may take longer than the default of 10 s.
	subscription := b.createSubscription("pulled", 60)
	ids := b.publishSizes(every)
	seen, handedOut := map[int]bool{}, []string{}
	for limit := time.Now().Add(waitLimit); len(seen) < len(every); {
		if time.Now().After(limit) {
			t.Fatalf("%d of %d messages came", len(seen), len(every))
		}
		received := b.pull(subscription, 1000, false)
		if len(received) == 0 {
			continue
		}
		for _, one := range received {
			number, err := verify(one.Message.Attributes, one.Message.Data, every)
			check(t, err)
			if ids[one.Message.MessageId] != number {
				t.Fatal("the id is not the one that publish gave")
			}
			seen[number] = true
		}
		b.acknowledge(subscription, ackIDs(received))
		handedOut = append(handedOut, ackIDs(received)...)
	}
	if again := len(handedOut) - len(every); again > len(every)/100 {
		t.Fatalf("%d of %d messages came twice", again, len(every))
	}
	b.wantAllAcknowledged(subscription, handedOut)
}

func TestTheLargestPublishRequestArrivesCompressedOrNot(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createSubscription("large", 60)
	// The largest request there is: 10,000,000 bytes with the topic's name and the framing.
	request := &pubsubpb.PublishRequest{Topic: b.topic, Messages: []*pubsubpb.PubsubMessage{{Data: content(1, 9_900_000)}}}
	size := 9_900_000 + 10_000_000 - proto.Size(request)
	for _, compressed := range []bool{false, true} {
		publisher := b.client.Publisher(b.topic)
		publisher.PublishSettings.EnableCompression = compressed
		id, err := publisher.Publish(b.ctx, &pubsub.Message{Data: content(1, size)}).Get(b.ctx)
		publisher.Stop()
		check(t, err)
		received := b.pullSome(subscription, 1)
		if received[0].Message.MessageId != id || !bytes.Equal(received[0].Message.Data, content(1, size)) {
			t.Fatalf("another message came, or it was altered (compressed: %v)", compressed)
		}
		b.acknowledge(subscription, ackIDs(received))
	}
}

// Case 22 of the behaviour specification.
func TestARefusedMessagePausesItsOrderingKeyAndNoOther(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	subscription := b.createSubscription("paused", 60)
	publisher := b.client.Publisher(b.topic)
	defer publisher.Stop()
	publisher.EnableMessageOrdering = true
	send := func(key string, message pubsub.Message) error {
		message.OrderingKey = key
		_, err := publisher.Publish(b.ctx, &message).Get(b.ctx)
		return err
	}
	good := func(text string) pubsub.Message { return pubsub.Message{Data: []byte(text)} }
	refused := map[string]pubsub.Message{
		"attribute": {Data: []byte("x"), Attributes: map[string]string{"long": string(bytes.Repeat([]byte("v"), 1025))}},
		"size":      {Data: content(1, 10_000_001)},
	}
	for key, bad := range refused {
		check(t, send(key, good("before")))
		if err := send(key, bad); err == nil {
			t.Fatalf("%s: a message past its limit was accepted", key)
		}
		if err := send(key, good("refused by the client")); !isPaused(err) {
			t.Fatalf("%s: want the key paused, got %v", key, err)
		}
		check(t, send("other", good("other of "+key)))
		publisher.ResumePublish(key)
		check(t, send(key, good("after")))
	}
	got := map[string]bool{}
	for _, one := range b.pullSome(subscription, 6) {
		got[one.Message.OrderingKey+" "+string(one.Message.Data)] = true
	}
	want := map[string]bool{"other other of attribute": true, "other other of size": true}
	for key := range refused {
		want[key+" before"], want[key+" after"] = true, true
	}
	if !maps.Equal(got, want) || len(b.pull(subscription, 10, true)) > 0 {
		t.Fatalf("got %v, want %v", got, want)
	}
}

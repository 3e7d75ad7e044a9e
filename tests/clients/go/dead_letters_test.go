package clients

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

const (
	attemptsMax      = 5
	deadLetterSource = "CloudPubSubDeadLetterSource"
)

// The documentation's sample: a subscriber that sees its delivery attempts and gives up.
func TestAMessageThatIsNackedFiveTimesGoesToTheDeadLetterTopic(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dead := "projects/" + project + "/topics/dead-letters"
	_, err := b.client.TopicAdminClient.CreateTopic(b.ctx, &pubsubpb.Topic{Name: dead})
	check(t, err)
	undertaker := "projects/" + project + "/subscriptions/undertaker"
	_, err = b.client.SubscriptionAdminClient.CreateSubscription(b.ctx,
		&pubsubpb.Subscription{Name: undertaker, Topic: dead})
	check(t, err)
	subscription := b.createSubscriptionWith("worker", &pubsubpb.Subscription{
		DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: dead, MaxDeliveryAttempts: attemptsMax},
	})
	var lock sync.Mutex
	var attempts []int
	stop := b.receive(subscription, nil, func(message *pubsub.Message) {
		lock.Lock()
		defer lock.Unlock()
		attempt := 0
		if message.DeliveryAttempt != nil {
			attempt = *message.DeliveryAttempt
		}
		attempts = append(attempts, attempt)
		message.Nack()
	})
	publisher := b.client.Publisher(b.topic)
	defer publisher.Stop()
	published, err := publisher.Publish(b.ctx,
		&pubsub.Message{Data: []byte("a letter"), Attributes: map[string]string{"origin": "here"}}).Get(b.ctx)
	check(t, err)
	received := b.pullSome(undertaker, 1)
	stop()
	if !slices.Equal(attempts, []int{1, 2, 3, 4, 5}) {
		t.Fatalf("the attempts were %v", attempts)
	}
	letter := received[0].Message
	if string(letter.Data) != "a letter" || letter.MessageId == published {
		t.Fatalf("%s became %v", published, letter)
	}
	if !strings.HasSuffix(letter.Attributes[deadLetterSource+"TopicPublishTime"], "+00:00") {
		t.Fatalf("its attributes are %v", letter.Attributes)
	}
	delete(letter.Attributes, deadLetterSource+"TopicPublishTime")
	wanted := map[string]string{
		"origin":                                 "here",
		deadLetterSource + "DeliveryCount":       fmt.Sprint(attemptsMax),
		deadLetterSource + "Subscription":        "worker",
		deadLetterSource + "SubscriptionProject": project,
	}
	if !maps.Equal(letter.Attributes, wanted) {
		t.Fatalf("want the attributes %v, got %v", wanted, letter.Attributes)
	}
	b.acknowledge(undertaker, ackIDs(received))
	b.wantAllAcknowledged(undertaker, ackIDs(received))
	if left := b.pull(subscription, 10, true); len(left) > 0 {
		t.Fatalf("%d messages are left where it was nacked", len(left))
	}
}

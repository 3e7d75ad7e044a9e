package clients

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// grpcurl runs the tool, which knows nothing of Pub/Sub but what the server's reflection tells it.
func (s *server) grpcurl(t *testing.T, data string, arguments ...string) string {
	t.Helper()
	full := []string{"-plaintext", "-max-time", "20"}
	if data != "" {
		full = append(full, "-d", data)
	}
	full = append(append(full, s.host), arguments...)
	output, err := exec.Command(os.Getenv("GRPCURL"), full...).CombinedOutput()
	if err != nil {
		t.Fatalf("grpcurl %s: %v\n%s", strings.Join(full, " "), err, output)
	}
	return string(output)
}

func wantText(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, one := range wanted {
		if !strings.Contains(text, one) {
			t.Fatalf("want %q in:\n%s", one, text)
		}
	}
}

func TestGrpcurlListsDescribesAndCallsByReflection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	wantText(t, s.grpcurl(t, "", "list"), "google.pubsub.v1.Publisher", "google.pubsub.v1.Subscriber", "grpc.health.v1.Health")
	wantText(t, s.grpcurl(t, "", "list", "google.pubsub.v1.Publisher"), "CreateTopic", "Publish")
	wantText(t, s.grpcurl(t, "", "describe", "google.pubsub.v1.PubsubMessage"), "ordering_key", "google.protobuf.Timestamp")
	wantText(t, s.grpcurl(t, "", "grpc.health.v1.Health/Check"), "SERVING")

	topic, subscription := "projects/demo/topics/letters", "projects/demo/subscriptions/desk"
	wantText(t, s.grpcurl(t, `{"name":"`+topic+`"}`, "google.pubsub.v1.Publisher/CreateTopic"), topic)
	wantText(t, s.grpcurl(t, `{"name":"`+subscription+`","topic":"`+topic+`"}`,
		"google.pubsub.v1.Subscriber/CreateSubscription"), `"ackDeadlineSeconds": 10`)
	wantText(t, s.grpcurl(t, `{"topic":"`+topic+`","messages":[{"data":"aGVsbG8="}]}`,
		"google.pubsub.v1.Publisher/Publish"), "messageIds")
	wantText(t, s.grpcurl(t, `{"subscription":"`+subscription+`","maxMessages":10}`,
		"google.pubsub.v1.Subscriber/Pull"), "aGVsbG8=", "ackId")
}

package clients

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	rest "google.golang.org/api/pubsub/v1"
)

const (
	restProject      = "projects/" + project
	restTopic        = restProject + "/topics/letters"
	restSubscription = restProject + "/subscriptions/desk"
)

// startRest starts a server, and returns Google's client that is made from the discovery document and speaks only
// HTTP/JSON.
func startRest(t *testing.T) *rest.ProjectsService {
	t.Helper()
	s := startServer(t)
	service, err := rest.NewService(t.Context(), option.WithEndpoint("http://"+s.host+"/"),
		option.WithHTTPClient(&http.Client{Timeout: waitLimit}))
	check(t, err)
	return service.Projects
}

// createRest creates the topic and the subscription.
func createRest(t *testing.T, projects *rest.ProjectsService) {
	t.Helper()
	topic, err := projects.Topics.Create(restTopic, &rest.Topic{Labels: map[string]string{"team": "post"}}).Do()
	check(t, err)
	if topic.Name != restTopic || topic.Labels["team"] != "post" {
		t.Fatalf("the topic reads %+v", topic)
	}
	subscription, err := projects.Subscriptions.Create(restSubscription,
		&rest.Subscription{Topic: restTopic, AckDeadlineSeconds: 30}).Do()
	check(t, err)
	if subscription.Name != restSubscription || subscription.Topic != restTopic || subscription.AckDeadlineSeconds != 30 ||
		subscription.State != "ACTIVE" {
		t.Fatalf("the subscription reads %+v", subscription)
	}
}

// wantRefused checks the code, the status and the beginning of the message of an error.
func wantRefused(t *testing.T, err error, code int, status, message string) {
	t.Helper()
	var refused *googleapi.Error
	if !errors.As(err, &refused) {
		t.Fatalf("want %d, got %v", code, err)
	}
	var body struct{ Error struct{ Status string } }
	check(t, json.Unmarshal([]byte(refused.Body), &body))
	if refused.Code != code || body.Error.Status != status || !strings.HasPrefix(refused.Message, message) {
		t.Fatalf("want %d %s %q, got %d %s %q", code, status, message, refused.Code, body.Error.Status, refused.Message)
	}
}

func TestRESTDeliversAMessageUntilItIsAcknowledged(t *testing.T) {
	t.Parallel()
	projects := startRest(t)
	createRest(t, projects)
	data := make([]byte, 256)
	for at := range data {
		data[at] = byte(at)
	}
	sent := &rest.PubsubMessage{
		Data: base64.StdEncoding.EncodeToString(data), Attributes: map[string]string{"ä": "ü"},
	}
	published, err := projects.Topics.Publish(restTopic, &rest.PublishRequest{Messages: []*rest.PubsubMessage{sent}}).Do()
	check(t, err)
	pull := func(request *rest.PullRequest) []*rest.ReceivedMessage {
		t.Helper()
		response, err := projects.Subscriptions.Pull(restSubscription, request).Do()
		check(t, err)
		return response.ReceivedMessages
	}
	received := pull(&rest.PullRequest{MaxMessages: 10})
	if len(received) != 1 {
		t.Fatalf("%d messages came", len(received))
	}
	got := received[0].Message
	if got.MessageId != published.MessageIds[0] || got.Data != sent.Data || !maps.Equal(got.Attributes, sent.Attributes) {
		t.Fatalf("got %+v, want %+v", got, sent)
	}

	ids := []string{received[0].AckId}
	modify := func(seconds int64) {
		t.Helper()
		_, err := projects.Subscriptions.ModifyAckDeadline(restSubscription,
			&rest.ModifyAckDeadlineRequest{AckIds: ids, AckDeadlineSeconds: seconds}).Do()
		check(t, err)
	}
	atOnce := &rest.PullRequest{MaxMessages: 10, ReturnImmediately: true}
	modify(60)
	if len(pull(atOnce)) > 0 {
		t.Fatal("the message came again during its lease")
	}
	_, err = projects.Subscriptions.Acknowledge(restSubscription, &rest.AcknowledgeRequest{AckIds: ids}).Do()
	check(t, err)
	modify(0)
	if len(pull(atOnce)) > 0 {
		t.Fatal("the message came again after its ack")
	}
}

func TestRESTPatchesWhatTheMaskNames(t *testing.T) {
	t.Parallel()
	projects := startRest(t)
	createRest(t, projects)
	labels := map[string]string{"team": "sorting"}
	topic, err := projects.Topics.Patch(restTopic, &rest.UpdateTopicRequest{
		Topic: &rest.Topic{Labels: labels, KmsKeyName: "not named"}, UpdateMask: "labels",
	}).Do()
	check(t, err)
	if !maps.Equal(topic.Labels, labels) || topic.KmsKeyName != "" {
		t.Fatalf("the topic reads %+v", topic)
	}
	// The mask in the query instead, as Terraform's provider sends it.
	subscription, err := projects.Subscriptions.Patch(restSubscription, &rest.UpdateSubscriptionRequest{
		Subscription: &rest.Subscription{AckDeadlineSeconds: 45, Labels: labels},
	}).Do(googleapi.QueryParameter("updateMask", "ackDeadlineSeconds"))
	check(t, err)
	if subscription.AckDeadlineSeconds != 45 || len(subscription.Labels) > 0 {
		t.Fatalf("the subscription reads %+v", subscription)
	}
}

func TestRESTListsInPages(t *testing.T) {
	t.Parallel()
	projects := startRest(t)
	var names []string
	for number := range 7 {
		names = append(names, fmt.Sprintf("%s/topics/topic-%d", restProject, number))
		_, err := projects.Topics.Create(names[number], &rest.Topic{}).Do()
		check(t, err)
	}
	var pages [][]string
	check(t, projects.Topics.List(restProject).PageSize(3).Pages(t.Context(), func(page *rest.ListTopicsResponse) error {
		var listed []string
		for _, topic := range page.Topics {
			listed = append(listed, topic.Name)
		}
		pages = append(pages, listed)
		return nil
	}))
	if want := [][]string{names[:3], names[3:6], names[6:]}; !reflect.DeepEqual(pages, want) {
		t.Fatalf("the pages are %v", pages)
	}
}

func TestRESTErrorsHaveTheStatusAndTheMessage(t *testing.T) {
	t.Parallel()
	projects := startRest(t)
	createRest(t, projects)
	_, err := projects.Topics.Get(restProject + "/topics/none").Do()
	wantRefused(t, err, 404, "NOT_FOUND", "Resource not found (resource=none).")
	_, err = projects.Topics.Create(restTopic, &rest.Topic{}).Do()
	wantRefused(t, err, 409, "ALREADY_EXISTS", "Resource already exists in the project (resource=letters).")
	wrong := restProject + "/topics/a$b"
	_, err = projects.Topics.Create(wrong, &rest.Topic{}).Do()
	wantRefused(t, err, 400, "INVALID_ARGUMENT", "Invalid resource name given (name="+wrong+").")
}

func TestRESTPoliciesAreReplacedByWhoHasReadThem(t *testing.T) {
	t.Parallel()
	projects := startRest(t)
	createRest(t, projects)
	policy, err := projects.Topics.GetIamPolicy(restTopic).Do()
	check(t, err)
	if policy.Etag == "" || len(policy.Bindings) > 0 {
		t.Fatalf("no policy reads %+v", policy)
	}
	policy.Bindings = []*rest.Binding{{Role: "roles/pubsub.publisher", Members: []string{"user:ada@example.com"}}}
	request := &rest.SetIamPolicyRequest{Policy: policy}
	_, err = projects.Topics.SetIamPolicy(restTopic, request).Do()
	check(t, err)
	shown, err := projects.Topics.GetIamPolicy(restTopic).Do()
	check(t, err)
	if !reflect.DeepEqual(shown.Bindings, policy.Bindings) {
		t.Fatalf("the policy reads %+v", shown)
	}
	_, err = projects.Topics.SetIamPolicy(restTopic, request).Do()
	wantRefused(t, err, 409, "ABORTED", "")
	permissions := []string{"pubsub.topics.publish", "pubsub.topics.get"}
	held, err := projects.Topics.TestIamPermissions(restTopic,
		&rest.TestIamPermissionsRequest{Permissions: permissions}).Do()
	check(t, err)
	if !slices.Equal(held.Permissions, permissions) {
		t.Fatalf("held are %v", held.Permissions)
	}
}

func TestRESTDeletesForGood(t *testing.T) {
	t.Parallel()
	projects := startRest(t)
	createRest(t, projects)
	_, err := projects.Topics.Delete(restTopic).Do()
	check(t, err)
	subscription, err := projects.Subscriptions.Get(restSubscription).Do()
	check(t, err)
	if subscription.Topic != "_deleted-topic_" {
		t.Fatalf("its topic reads %s", subscription.Topic)
	}
	_, err = projects.Subscriptions.Delete(restSubscription).Do()
	check(t, err)
	topics, err := projects.Topics.List(restProject).Do()
	check(t, err)
	subscriptions, err := projects.Subscriptions.List(restProject).Do()
	check(t, err)
	if len(topics.Topics)+len(subscriptions.Subscriptions) > 0 {
		t.Fatalf("left are %+v and %+v", topics.Topics, subscriptions.Subscriptions)
	}
}

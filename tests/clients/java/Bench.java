import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.fail;

import com.google.api.core.ApiFuture;
import com.google.api.core.ApiFutures;
import com.google.api.gax.core.NoCredentialsProvider;
import com.google.api.gax.grpc.GrpcTransportChannel;
import com.google.api.gax.rpc.FixedTransportChannelProvider;
import com.google.api.gax.rpc.TransportChannelProvider;
import com.google.cloud.pubsub.v1.MessageReceiver;
import com.google.cloud.pubsub.v1.MessageReceiverWithAckResponse;
import com.google.cloud.pubsub.v1.Publisher;
import com.google.cloud.pubsub.v1.Subscriber;
import com.google.cloud.pubsub.v1.SubscriptionAdminClient;
import com.google.cloud.pubsub.v1.SubscriptionAdminSettings;
import com.google.cloud.pubsub.v1.TopicAdminClient;
import com.google.cloud.pubsub.v1.TopicAdminSettings;
import com.google.protobuf.ByteString;
import com.google.pubsub.v1.PubsubMessage;
import com.google.pubsub.v1.PullRequest;
import com.google.pubsub.v1.ReceivedMessage;
import com.google.pubsub.v1.Subscription;
import com.google.pubsub.v1.SubscriptionName;
import com.google.pubsub.v1.TopicName;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;

/** A running server, the official client at its default settings, and one topic. */
final class Bench implements AutoCloseable {
  static final boolean LONG = "1".equals(System.getenv("PACKETBOAT_LONG"));
  static final String PROJECT = "client-tests";
  static final long WAIT_LIMIT_SECONDS = 240;

  final Server server = new Server();
  final TopicName topic = TopicName.of(PROJECT, "letters");

  // As much as the client's own channels take. By itself one takes 8 KiB, and ends with more: the names of some 80 failed ids.
  private final ManagedChannel channel = ManagedChannelBuilder.forTarget(server.host).usePlaintext()
      .maxInboundMetadataSize(4 * 1024 * 1024).build();
  private final TransportChannelProvider channels =
      FixedTransportChannelProvider.create(GrpcTransportChannel.create(channel));
  private final NoCredentialsProvider credentials = NoCredentialsProvider.create();
  private final TopicAdminClient topics = TopicAdminClient.create(
      TopicAdminSettings.newBuilder()
          .setTransportChannelProvider(channels).setCredentialsProvider(credentials).build());
  private final SubscriptionAdminClient subscriptions = SubscriptionAdminClient.create(
      SubscriptionAdminSettings.newBuilder()
          .setTransportChannelProvider(channels).setCredentialsProvider(credentials).build());
  private final List<Publisher> publishers = new ArrayList<>();
  private final List<Subscriber> subscribers = new ArrayList<>();

  Bench() throws Exception {}

  static Bench withTopic() throws Exception {
    Bench bench = new Bench();
    bench.createTopic();
    return bench;
  }

  void createTopic() {
    topics.createTopic(topic);
  }

  /** Creates another topic; its name. */
  String createTopic(String name) {
    return topics.createTopic(TopicName.of(PROJECT, name)).getName();
  }

  /** Creates a subscription of the topic with these settings; its name. */
  String createSubscription(String name, Subscription.Builder settings) {
    return createSubscription(name, topic.toString(), settings);
  }

  /** Creates a subscription of another topic. */
  String createSubscription(String name, String ofTopic, Subscription.Builder settings) {
    String path = SubscriptionName.format(PROJECT, name);
    return subscriptions.createSubscription(settings.setName(path).setTopic(ofTopic).build()).getName();
  }

  Publisher publisher(boolean ordering) throws Exception {
    Publisher publisher = Publisher.newBuilder(topic).setChannelProvider(channels).setCredentialsProvider(credentials)
        .setEnableMessageOrdering(ordering).build();
    publishers.add(publisher);
    return publisher;
  }

  /** Publishes them all; their ids. */
  List<String> publish(List<PubsubMessage> messages) throws Exception {
    Publisher publisher = publisher(false);
    List<ApiFuture<String>> answers = messages.stream().map(publisher::publish).toList();
    return ApiFutures.allAsList(answers).get(WAIT_LIMIT_SECONDS, TimeUnit.SECONDS);
  }

  static PubsubMessage message(String text) {
    return PubsubMessage.newBuilder().setData(ByteString.copyFromUtf8(text)).build();
  }

  /** Gives every message to `receiver` until the subscriber is stopped, or the test ends. */
  Subscriber receive(String subscription, MessageReceiver receiver) {
    return start(Subscriber.newBuilder(subscription, receiver));
  }

  /** The same, where each ack is answered. */
  Subscriber receiveWithResponse(String subscription, MessageReceiverWithAckResponse receiver) {
    return start(Subscriber.newBuilder(subscription, receiver));
  }

  private Subscriber start(Subscriber.Builder builder) {
    Subscriber subscriber = builder.setChannelProvider(channels).setCredentialsProvider(credentials).build();
    subscribers.add(subscriber);
    subscriber.startAsync().awaitRunning();
    return subscriber;
  }

  /** Fails if it has ended by itself with an error. */
  static void stop(Subscriber subscriber) throws Exception {
    subscriber.stopAsync().awaitTerminated(WAIT_LIMIT_SECONDS, TimeUnit.SECONDS);
  }

  /** Long-polls until `count` messages have come. */
  List<ReceivedMessage> pull(String subscription, int count) throws InterruptedException {
    List<ReceivedMessage> received = new ArrayList<>();
    waitUntil(() -> {
      received.addAll(subscriptions.pull(subscription, count - received.size()).getReceivedMessagesList());
      return received.size() >= count;
    }, () -> received.size() + " of " + count + " messages came");
    return received;
  }

  void acknowledge(String subscription, List<String> ackIds) {
    subscriptions.acknowledge(subscription, ackIds);
  }

  /** Ends the leases of these ack ids: what was not acknowledged comes again. */
  void giveUp(String subscription, List<String> ackIds) {
    subscriptions.modifyAckDeadline(subscription, ackIds, 0);
  }

  /** Checks that nothing is deliverable at this moment. */
  @SuppressWarnings("deprecation") // production may miss messages when it answers at once
  void assertEmpty(String subscription) {
    PullRequest request = PullRequest.newBuilder().setSubscription(subscription).setMaxMessages(1000)
        .setReturnImmediately(true).build();
    assertEquals(List.of(), subscriptions.pullCallable().call(request).getReceivedMessagesList());
  }

  /** Returns when `condition` holds; fails after the limit, naming `what`. */
  static void waitUntil(BooleanSupplier condition, Supplier<String> what) throws InterruptedException {
    long limit = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_LIMIT_SECONDS);
    while (!condition.getAsBoolean()) {
      if (System.nanoTime() > limit) {
        fail("after " + WAIT_LIMIT_SECONDS + " s: " + what.get());
      }
      Thread.sleep(20);
    }
  }

  @Override
  public void close() throws Exception {
    subscribers.forEach(Subscriber::stopAsync);
    publishers.forEach(Publisher::shutdown);
    topics.close();
    subscriptions.close();
    channel.shutdownNow();
    server.close();
  }
}

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.protobuf.ByteString;
import com.google.pubsub.v1.PubsubMessage;
import com.google.pubsub.v1.Subscription;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Publishing and receiving at the settings that the client has by itself. */
class DeliveryTest {
  private static final int ACK_DEADLINE_SECONDS = 10;

  @Test
  void whatIsPublishedIsReceivedUntilItIsAcknowledged() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String subscription = bench.createSubscription("desk", Subscription.newBuilder());
      List<PubsubMessage> sent = IntStream.range(0, 1000).mapToObj(number -> PubsubMessage.newBuilder()
          .setData(ByteString.copyFromUtf8("letter " + number))
          .putAttributes("number", "" + number).putAttributes("ä", "ü").build()).toList();
      List<String> ids = bench.publish(sent);
      Map<String, PubsubMessage> wanted = new HashMap<>();
      for (int number = 0; number < sent.size(); number++) {
        wanted.put(ids.get(number), sent.get(number));
      }
      Map<String, PubsubMessage> came = new ConcurrentHashMap<>();
      var subscriber = bench.receive(subscription, (message, reply) -> {
        came.put(message.getMessageId(), message.toBuilder().clearMessageId().clearPublishTime().build());
        reply.ack();
      });
      Bench.waitUntil(() -> came.size() >= sent.size(), () -> came.size() + " of " + sent.size() + " messages came");
      Bench.stop(subscriber);
      assertEquals(wanted, came);
      bench.assertEmpty(subscription);
    }
  }

  @Test
  void aCallbackLongerThanTheAckDeadlineKeepsItsMessage() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String subscription = bench.createSubscription(
          "slow", Subscription.newBuilder().setAckDeadlineSeconds(ACK_DEADLINE_SECONDS));
      AtomicInteger begun = new AtomicInteger();
      AtomicInteger done = new AtomicInteger();
      var subscriber = bench.receive(subscription, (message, reply) -> {
        begun.incrementAndGet();
        try {
          Thread.sleep(ACK_DEADLINE_SECONDS * 2500); // the work that takes long
        } catch (InterruptedException stopped) {
          return;
        }
        reply.ack();
        done.incrementAndGet();
      });
      bench.publish(List.of(Bench.message("letter")));
      Bench.waitUntil(() -> done.get() > 0, () -> "the callback has not ended");
      Bench.stop(subscriber);
      assertEquals(1, begun.get());
      bench.assertEmpty(subscription);
    }
  }
}

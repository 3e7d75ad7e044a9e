import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.api.gax.rpc.InvalidArgumentException;
import com.google.protobuf.Duration;
import com.google.pubsub.v1.PubsubMessage;
import com.google.pubsub.v1.RetryPolicy;
import com.google.pubsub.v1.Subscription;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Settings of subscriptions that change what is delivered, as the documentation's samples make them. */
class SettingsTest {
  private static final int MESSAGES_OF_EACH_KIND = 50;

  private static Subscription.Builder retrying(int minimumSeconds, int maximumSeconds) {
    return Subscription.newBuilder().setRetryPolicy(RetryPolicy.newBuilder()
        .setMinimumBackoff(Duration.newBuilder().setSeconds(minimumSeconds))
        .setMaximumBackoff(Duration.newBuilder().setSeconds(maximumSeconds)));
  }

  @Test
  void aFilteredSubscriptionGetsWhatMatchesAndHasNoOtherBacklog() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String bills = bench.createSubscription(
          "bills", Subscription.newBuilder().setFilter("attributes.kind = \"bill\" AND NOT attributes:draft"));
      List<Map<String, String>> kinds = List.of(
          Map.of("kind", "bill"), Map.of("kind", "offer"), Map.of("kind", "bill", "draft", ""), Map.of("none", ""));
      List<PubsubMessage> sent = IntStream.range(0, MESSAGES_OF_EACH_KIND * kinds.size())
          .mapToObj(number -> PubsubMessage.newBuilder().putAllAttributes(kinds.get(number % kinds.size())).build())
          .toList();
      List<String> ids = bench.publish(sent);
      Set<String> wanted = new HashSet<>();
      for (int number = 0; number < ids.size(); number += kinds.size()) {
        wanted.add(ids.get(number));
      }
      Set<String> came = ConcurrentHashMap.newKeySet();
      var subscriber = bench.receive(bills, (message, reply) -> {
        came.add(message.getMessageId());
        reply.ack();
      });
      Bench.waitUntil(() -> came.size() >= wanted.size(), () -> came.size() + " of " + wanted.size() + " came");
      Bench.stop(subscriber);
      assertEquals(wanted, came);
      bench.assertEmpty(bills);
      var wrong = Subscription.newBuilder().setFilter("attributes.kind = bill");
      var refused = assertThrows(InvalidArgumentException.class, () -> bench.createSubscription("wrong", wrong));
      assertTrue(refused.getMessage().contains("Invalid filter"), refused.getMessage());
    }
  }

  @Test
  void aNackedMessageWaitsForItsBackoff() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String subscription = bench.createSubscription("retried", retrying(1, 2));
      List<Long> times = new CopyOnWriteArrayList<>();
      var subscriber = bench.receive(subscription, (message, reply) -> {
        times.add(System.nanoTime());
        if (times.size() < 4) {
          reply.nack();
        } else {
          reply.ack();
        }
      });
      bench.publish(List.of(Bench.message("fails")));
      Bench.waitUntil(() -> times.size() >= 4, () -> "it came " + times.size() + " times");
      Bench.stop(subscriber);
      int[] leastSeconds = {1, 2, 2};
      for (int nack = 0; nack < leastSeconds.length; nack++) {
        long waited = times.get(nack + 1) - times.get(nack);
        assertTrue(waited >= TimeUnit.SECONDS.toNanos(leastSeconds[nack]), "nack " + nack + ": " + waited + " ns");
      }
    }
  }

  @Test
  void aMessageInItsBackoffHoldsUpNoOther() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String subscription = bench.createSubscription("waiting", retrying(600, 600));
      List<String> came = new CopyOnWriteArrayList<>();
      var subscriber = bench.receive(subscription, (message, reply) -> {
        String text = message.getData().toStringUtf8();
        came.add(text);
        if (text.equals("fails")) {
          reply.nack();
        } else {
          reply.ack();
        }
      });
      bench.publish(List.of(Bench.message("fails")));
      Bench.waitUntil(() -> !came.isEmpty(), () -> "nothing came");
      bench.publish(Collections.nCopies(10, Bench.message("other")));
      Bench.waitUntil(() -> Collections.frequency(came, "other") >= 10, () -> "these came: " + came);
      Bench.stop(subscriber);
      assertEquals(1, Collections.frequency(came, "fails"));
      bench.assertEmpty(subscription);
    }
  }
}

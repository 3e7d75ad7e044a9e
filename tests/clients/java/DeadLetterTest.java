import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.cloud.pubsub.v1.Subscriber;
import com.google.pubsub.v1.DeadLetterPolicy;
import com.google.pubsub.v1.PubsubMessage;
import com.google.pubsub.v1.ReceivedMessage;
import com.google.pubsub.v1.Subscription;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.Test;

/** The documentation's sample of dead letter topics: a subscriber that sees its delivery attempts and gives up. */
class DeadLetterTest {
  private static final int ATTEMPTS_MAX = 5;
  private static final String SOURCE = "CloudPubSubDeadLetterSource";

  @Test
  void aMessageThatIsNackedFiveTimesGoesToTheDeadLetterTopic() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String dead = bench.createTopic("dead-letters");
      String undertaker = bench.createSubscription("undertaker", dead, Subscription.newBuilder());
      String subscription = bench.createSubscription("worker", Subscription.newBuilder().setDeadLetterPolicy(
          DeadLetterPolicy.newBuilder().setDeadLetterTopic(dead).setMaxDeliveryAttempts(ATTEMPTS_MAX)));
      List<Integer> attempts = new CopyOnWriteArrayList<>();
      var subscriber = bench.receive(subscription, (message, reply) -> {
        attempts.add(Subscriber.getDeliveryAttempt(message));
        reply.nack();
      });
      PubsubMessage sent = Bench.message("a letter").toBuilder().putAttributes("origin", "here").build();
      String published = bench.publish(List.of(sent)).get(0);
      ReceivedMessage received = bench.pull(undertaker, 1).get(0);
      Bench.stop(subscriber);
      assertEquals(List.of(1, 2, 3, 4, 5), attempts);
      PubsubMessage letter = received.getMessage();
      assertEquals(sent.getData(), letter.getData());
      assertNotEquals(published, letter.getMessageId());
      Map<String, String> attributes = new HashMap<>(letter.getAttributesMap());
      String publishTime = attributes.remove(SOURCE + "TopicPublishTime");
      assertTrue(publishTime.endsWith("+00:00"), publishTime);
      assertEquals(Map.of("origin", "here", SOURCE + "DeliveryCount", "" + ATTEMPTS_MAX,
          SOURCE + "Subscription", "worker", SOURCE + "SubscriptionProject", Bench.PROJECT), attributes);
      bench.acknowledge(undertaker, List.of(received.getAckId()));
      bench.giveUp(undertaker, List.of(received.getAckId()));
      bench.assertEmpty(undertaker);
      bench.assertEmpty(subscription);
    }
  }
}

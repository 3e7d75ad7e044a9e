import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.api.gax.rpc.InvalidArgumentException;
import com.google.cloud.pubsub.v1.AckReplyConsumerWithResponse;
import com.google.cloud.pubsub.v1.AckResponse;
import com.google.cloud.pubsub.v1.MessageReceiverWithAckResponse;
import com.google.pubsub.v1.PubsubMessage;
import com.google.pubsub.v1.ReceivedMessage;
import com.google.pubsub.v1.Subscription;
import com.google.rpc.ErrorInfo;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/**
 * Exactly-once delivery as the client has it by default: an ack whose response says success is never undone, and no
 * message comes while the client holds it, also when the server is killed in the middle.
 */
class ExactlyOnceTest {
  private static final int KILLS = Bench.LONG ? 20 : 3;
  private static final int MESSAGES_BETWEEN_KILLS = 200;
  // How long a receiver works on a message, so that some are held when the server is killed.
  private static final int WORK_MS = 20;
  // The most that this client puts into one request.
  private static final int ACK_IDS_IN_A_REQUEST = 1000;

  /** Acknowledges every message with a response, and notes what must not happen. */
  private static final class Consumer implements MessageReceiverWithAckResponse {
    private final Set<String> held = new HashSet<>();
    private final Set<String> acked = new HashSet<>();
    private final List<String> doubled = new ArrayList<>();
    private final List<String> undone = new ArrayList<>();
    private final Map<AckResponse, Integer> responses = new HashMap<>();

    @Override
    public void receiveMessage(PubsubMessage message, AckReplyConsumerWithResponse reply) {
      String id = message.getMessageId();
      hold(id);
      try {
        Thread.sleep(WORK_MS);
        note(id, reply.ack().get());
      } catch (InterruptedException | ExecutionException ended) {
        note(id, AckResponse.OTHER);
      }
    }

    private synchronized void hold(String id) {
      if (!held.add(id)) {
        doubled.add(id);
      }
      if (acked.contains(id)) {
        undone.add(id);
      }
    }

    private synchronized void note(String id, AckResponse response) {
      held.remove(id);
      responses.merge(response, 1, Integer::sum);
      if (response == AckResponse.SUCCESSFUL) {
        acked.add(id);
      }
    }

    synchronized int countAcked() {
      return acked.size();
    }

    synchronized void assertExactlyOnce(List<String> published) {
      assertEquals(new HashSet<>(published), acked);
      assertEquals(List.of(), undone, "messages came again after their ack");
      assertEquals(List.of(), doubled, "messages came while they were held");
      assertEquals(Set.of(AckResponse.SUCCESSFUL), responses.keySet());
    }

    @Override
    public synchronized String toString() {
      return acked.size() + " are acknowledged, of these responses: " + responses;
    }
  }

  private static String createExactlyOnce(Bench bench) {
    return bench.createSubscription("exactly-once",
        Subscription.newBuilder().setEnableExactlyOnceDelivery(true).setAckDeadlineSeconds(600));
  }

  private static List<String> publish(Bench bench, int count) throws Exception {
    return bench.publish(Collections.nCopies(count, Bench.message("letter")));
  }

  private static List<String> pull(Bench bench, String subscription, int count) throws InterruptedException {
    return bench.pull(subscription, count).stream().map(ReceivedMessage::getAckId).toList();
  }

  /** Checks that the answer to their ack names the ids `failed` as invalid, and no other. */
  private static void assertFailed(Bench bench, String subscription, List<String> ackIds, List<String> failed) {
    var refused =
        assertThrows(InvalidArgumentException.class, () -> bench.acknowledge(subscription, ackIds));
    ErrorInfo info = refused.getErrorDetails().getErrorInfo();
    assertEquals("EXACTLY_ONCE_ACKID_FAILURE", info.getReason());
    assertEquals("pubsub.googleapis.com", info.getDomain());
    Map<String, String> wanted =
        failed.stream().collect(Collectors.toMap(Function.identity(), id -> "PERMANENT_FAILURE_INVALID_ACK_ID"));
    assertEquals(wanted, info.getMetadataMap());
  }

  @Test
  void whatWasAcknowledgedWithSuccessStaysSoWhenTheServerIsKilled() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String subscription = createExactlyOnce(bench);
      Consumer consumer = new Consumer();
      var subscriber = bench.receiveWithResponse(subscription, consumer);
      List<String> published = new ArrayList<>();
      for (int kill = 0; kill < KILLS; kill++) {
        int before = published.size();
        published.addAll(publish(bench, MESSAGES_BETWEEN_KILLS));
        // All but the last: with 1,000 outstanding this client waits for room where it handles the acks that make it.
        Bench.waitUntil(() -> consumer.countAcked() > before, consumer::toString);
        bench.server.kill();
        bench.server.start();
      }
      Bench.waitUntil(() -> consumer.countAcked() >= published.size(), consumer::toString);
      Bench.stop(subscriber);
      consumer.assertExactlyOnce(published);
      bench.assertEmpty(subscription);
    }
  }

  @Test
  void anAckAfterTheDeadlineFailsByNameAndTheRestOfItsRequestIsApplied() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String subscription = createExactlyOnce(bench);
      publish(bench, 2);
      List<String> ackIds = pull(bench, subscription, 2);
      List<String> late = ackIds.subList(0, 1);
      bench.giveUp(subscription, late);
      assertFailed(bench, subscription, ackIds, late);
      bench.acknowledge(subscription, ackIds.subList(1, 2));
      List<String> again = pull(bench, subscription, 1);
      assertFalse(ackIds.contains(again.get(0)));
      bench.acknowledge(subscription, again);
      bench.assertEmpty(subscription);
    }
  }

  @Test
  void asManyFailedAckIdsAsAClientSendsArriveWhole() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String subscription = createExactlyOnce(bench);
      publish(bench, ACK_IDS_IN_A_REQUEST);
      List<String> ackIds = pull(bench, subscription, ACK_IDS_IN_A_REQUEST);
      bench.giveUp(subscription, ackIds);
      assertFailed(bench, subscription, ackIds, ackIds);
    }
  }
}

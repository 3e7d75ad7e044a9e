import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.api.core.ApiFuture;
import com.google.api.core.ApiFutures;
import com.google.api.gax.rpc.NotFoundException;
import com.google.cloud.pubsub.v1.Publisher;
import com.google.pubsub.v1.PubsubMessage;
import com.google.pubsub.v1.Subscription;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Message ordering, as the documentation's samples use it: each key's messages come in order, to the end. */
class OrderingTest {
  private static final int KILLS = Bench.LONG ? 20 : 2;
  private static final int KEYS = 16;
  private static final int MESSAGES_OF_EACH_KEY = 60;
  // How many must have been received since the last start before the next kill.
  private static final int RECEIVED_BETWEEN_KILLS = 200;
  private static final int AHEAD_MAX = 500;

  /** The numbers that came, by ordering key, each where it first came. */
  private static final class Arrivals {
    private final Map<String, Set<Integer>> numbers = new HashMap<>();
    private int count;

    synchronized void add(PubsubMessage message) {
      Set<Integer> numbersOfKey = numbers.computeIfAbsent(message.getOrderingKey(), key -> new LinkedHashSet<>());
      if (numbersOfKey.add(number(message))) {
        count++;
      }
    }

    synchronized int count() {
      return count;
    }

    /** Waits for as many of each key, and checks that they came in order. */
    void assertInOrder(Map<String, Integer> counts) throws InterruptedException {
      int wanted = counts.values().stream().mapToInt(Integer::intValue).sum();
      Bench.waitUntil(() -> count() >= wanted, () -> count() + " of " + wanted + " messages came");
      synchronized (this) {
        counts.forEach((key, count) -> assertEquals(
            IntStream.range(0, count).boxed().toList(), List.copyOf(numbers.getOrDefault(key, Set.of())), key));
      }
    }
  }

  private static int number(PubsubMessage message) {
    return Integer.parseInt(message.getData().toStringUtf8());
  }

  private static ApiFuture<String> publish(Publisher publisher, String key, int number) {
    return publisher.publish(Bench.message("" + number).toBuilder().setOrderingKey(key).build());
  }

  private static String createOrdered(Bench bench, String name) {
    return bench.createSubscription(name, Subscription.newBuilder().setEnableMessageOrdering(true));
  }

  private static void waitFor(List<ApiFuture<String>> answers) throws Exception {
    ApiFutures.allAsList(answers).get(Bench.WAIT_LIMIT_SECONDS, TimeUnit.SECONDS);
  }

  /** The cause of a publish that must fail. */
  private static Throwable failure(ApiFuture<String> answer) {
    return assertThrows(ExecutionException.class, () -> answer.get(Bench.WAIT_LIMIT_SECONDS, TimeUnit.SECONDS))
        .getCause();
  }

  @Test
  void messagesOfEachKeyComeInTheOrderInWhichTheyWerePublished() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String subscription = createOrdered(bench, "ordered");
      Publisher publisher = bench.publisher(true);
      Map<String, Integer> counts = new HashMap<>();
      List<ApiFuture<String>> answers = new ArrayList<>();
      for (int number = 0; number < MESSAGES_OF_EACH_KEY; number++) {
        for (int key = 0; key < KEYS; key++) {
          counts.put("key-" + key, MESSAGES_OF_EACH_KEY);
          answers.add(publish(publisher, "key-" + key, number));
        }
      }
      waitFor(answers);
      Arrivals arrivals = new Arrivals();
      var subscriber = bench.receive(subscription, (message, reply) -> {
        arrivals.add(message);
        reply.ack();
      });
      arrivals.assertInOrder(counts);
      Bench.stop(subscriber);
    }
  }

  @Test
  void publishingOfAKeyIsResumedAfterAnError() throws Exception {
    try (Bench bench = new Bench()) {
      Publisher publisher = bench.publisher(true);
      assertInstanceOf(NotFoundException.class, failure(publish(publisher, "key", 0)));
      bench.createTopic();
      String subscription = createOrdered(bench, "resumed");
      assertInstanceOf(CancellationException.class, failure(publish(publisher, "key", 0)));
      publisher.resumePublish("key");
      waitFor(IntStream.range(0, 20).mapToObj(number -> publish(publisher, "key", number)).toList());
      Arrivals arrivals = new Arrivals();
      var subscriber = bench.receive(subscription, (message, reply) -> {
        arrivals.add(message);
        reply.ack();
      });
      arrivals.assertInOrder(Map.of("key", 20));
      Bench.stop(subscriber);
    }
  }

  @Test
  void aNackBringsBackWhatFollowsInItsKeyAndHoldsUpNoOther() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String subscription = createOrdered(bench, "nacked");
      Publisher publisher = bench.publisher(true);
      List<ApiFuture<String>> answers = new ArrayList<>();
      for (int number = 0; number < 30; number++) {
        answers.add(publish(publisher, "nacked", number));
        answers.add(publish(publisher, "other", number));
      }
      waitFor(answers);
      Arrivals acknowledged = new Arrivals();
      AtomicInteger deliveries = new AtomicInteger(); // one callback of a key at a time
      var subscriber = bench.receive(subscription, (message, reply) -> {
        if (message.getOrderingKey().equals("nacked") && number(message) >= 3) {
          if (number(message) == 3) {
            deliveries.incrementAndGet();
          }
          if (deliveries.get() <= 5) {
            reply.nack();
            return;
          }
        }
        acknowledged.add(message);
        reply.ack();
      });
      Bench.waitUntil(() -> deliveries.get() >= 6, () -> "the nacked message came " + deliveries + " times");
      acknowledged.assertInOrder(Map.of("nacked", 30, "other", 30));
      Bench.stop(subscriber);
    }
  }

  /** Publishes one key after the other until it is told to end, each key's numbers going up by one. */
  private static final class OrderedPublishing extends Thread {
    private final Publisher publisher;
    private final Arrivals arrivals;
    private final List<ApiFuture<String>> answers = new ArrayList<>();
    private final Map<String, Integer> counts = new HashMap<>();
    private boolean stopping;

    OrderedPublishing(Publisher publisher, Arrivals arrivals) {
      this.publisher = publisher;
      this.arrivals = arrivals;
    }

    @Override
    public void run() {
      try {
        while (publishSome()) {
          Thread.sleep(1);
        }
      } catch (InterruptedException ended) {
        // The test is over.
      }
    }

    private synchronized boolean publishSome() {
      for (int key = 0; key < KEYS && answers.size() < arrivals.count() + AHEAD_MAX; key++) {
        int number = counts.merge("key-" + key, 1, Integer::sum) - 1;
        answers.add(publish(publisher, "key-" + key, number));
      }
      return !stopping;
    }

    /** What was published until now. */
    synchronized List<ApiFuture<String>> answers() {
      return List.copyOf(answers);
    }

    void end() throws InterruptedException {
      synchronized (this) {
        stopping = true;
      }
      join();
    }
  }

  @Test
  void keysKeepTheirOrderWhileTheServerIsKilled() throws Exception {
    try (Bench bench = Bench.withTopic()) {
      String subscription = createOrdered(bench, "killed");
      Arrivals arrivals = new Arrivals();
      var subscriber = bench.receive(subscription, (message, reply) -> {
        arrivals.add(message);
        reply.ack();
      });
      OrderedPublishing publishing = new OrderedPublishing(bench.publisher(true), arrivals);
      publishing.start();
      try {
        for (int kill = 0; kill < KILLS; kill++) {
          int wanted = arrivals.count() + RECEIVED_BETWEEN_KILLS;
          // The client retries a publish later and later: it must get through between two kills.
          waitFor(publishing.answers());
          Bench.waitUntil(
              () -> arrivals.count() >= wanted, () -> arrivals.count() + " of " + wanted + " messages came");
          bench.server.kill();
          bench.server.start();
        }
      } finally {
        publishing.end();
      }
      waitFor(publishing.answers());
      arrivals.assertInOrder(publishing.counts);
      Bench.stop(subscriber);
    }
  }
}

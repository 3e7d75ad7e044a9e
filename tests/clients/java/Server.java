import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/** Runs `$PACKETBOAT_BIN serve` on one port and one location for its data, through kills and restarts. */
final class Server implements AutoCloseable {
  private static final int START_LIMIT_SECONDS = 30;

  /** What PUBSUB_EMULATOR_HOST would have to be. */
  final String host;

  private final Path directory;
  private final List<String> location;
  private final Socket reservation;
  private Process process;

  Server() throws Exception {
    directory = Files.createTempDirectory("packetboat-");
    reservation = reservePort();
    host = "127.0.0.1:" + reservation.getLocalPort();
    // Makes a location for data, of the kind that is tested.
    Process script = new ProcessBuilder("../location.sh", directory.toString())
        .redirectError(ProcessBuilder.Redirect.INHERIT).start();
    location = new String(script.getInputStream().readAllBytes()).lines().toList();
    if (script.waitFor() != 0) {
      throw new IOException("there is no location for data");
    }
    start();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> process.destroyForcibly())); // however the tests end
  }

  /** Returns once the server says that it serves; its log is in `server.log` beside its data. */
  void start() throws Exception {
    List<String> command = new ArrayList<>(List.of(System.getenv("PACKETBOAT_BIN"), "serve", "--listen", host));
    command.addAll(location);
    Path log = directory.resolve("server.log");
    process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.appendTo(log.toFile())).start();
    CompletableFuture<Boolean> ready = new CompletableFuture<>();
    InputStream output = process.getInputStream();
    Thread reader = new Thread(() -> {
      try (BufferedReader lines = new BufferedReader(new InputStreamReader(output))) {
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
          if (line.contains("PUBSUB_EMULATOR_HOST=" + host)) {
            ready.complete(true);
          }
        }
      } catch (IOException ended) {
        // The process was killed.
      }
      ready.complete(false);
    });
    reader.setDaemon(true);
    reader.start();
    if (!ready.completeOnTimeout(false, START_LIMIT_SECONDS, TimeUnit.SECONDS).get()) {
      kill();
      throw new IOException("the server did not start; its log:\n" + Files.readString(log));
    }
  }

  /** SIGKILL: no handler of the server runs. */
  void kill() throws InterruptedException {
    process.destroyForcibly().waitFor();
  }

  @Override
  public void close() throws Exception {
    kill();
    reservation.close();
    try (var files = Files.walk(directory)) {
      for (Path path : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(path);
      }
    }
  }

  /**
   * A socket that reserves its port while it is open. It is bound and does not listen, so the server can listen at the
   * port, however often it is started, and nothing else gets it: neither another test nor an outgoing connection.
   */
  private static Socket reservePort() throws IOException {
    while (true) {
      Socket socket = new Socket();
      socket.setReuseAddress(false);
      try {
        socket.bind(new InetSocketAddress("127.0.0.1", ThreadLocalRandom.current().nextInt(12_000, 32_000)));
      } catch (IOException taken) {
        socket.close();
        continue;
      }
      // Only now: with it, the bind above would share the port of another test's reservation. The server sets it too.
      socket.setReuseAddress(true);
      return socket;
    }
  }
}

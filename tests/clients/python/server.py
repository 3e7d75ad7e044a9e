"""A Packetboat server process of a test's own."""

import os
import pathlib
import queue
import random
import re
import signal
import socket
import subprocess
import threading

START_LIMIT_SECONDS = 30
STOP_LIMIT_SECONDS = 15
# Makes a location for data, of the kind that is tested.
LOCATION = pathlib.Path(__file__).parent.parent / "location.sh"


class Server:
    """Runs `$PACKETBOAT_BIN serve` on one port and one location for its data, through kills and restarts."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.port, self.reservation = reserve_port()
        location = subprocess.run([LOCATION, str(directory)], stdout=subprocess.PIPE, text=True, check=True)
        self.location = location.stdout.splitlines()
        self.process = None

    @property
    def host(self) -> str:
        """What PUBSUB_EMULATOR_HOST has to be."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once the server says that it serves; its log is in `server.log` beside its data."""
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [os.environ["PACKETBOAT_BIN"], "serve", "--listen", self.host, *self.location],
                stdout=subprocess.PIPE, stderr=log, text=True,
            )
        lines = queue.Queue()
        threading.Thread(target=_read_lines, args=(self.process.stdout, lines), daemon=True).start()
        seen = ""
        while True:
            try:
                line = lines.get(timeout=START_LIMIT_SECONDS)
            except queue.Empty:
                line = None
            if line is None:
                self.kill()
                raise AssertionError(f"the server did not start; stdout {seen!r}, log:\n{self.log()}")
            seen += line
            if re.search(rf"PUBSUB_EMULATOR_HOST=\W?{re.escape(self.host)}\b", line):
                return

    def kill(self) -> None:
        """SIGKILL: no handler of the server runs."""
        self.process.kill()
        self.process.wait(STOP_LIMIT_SECONDS)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_LIMIT_SECONDS)

    def log(self) -> str:
        """The end of what the server has logged."""
        return (self.directory / "server.log").read_text(errors="replace")[-4000:]


def reserve_port() -> tuple[int, socket.socket]:
    """A port, and the socket that reserves it while it is open.

    The socket is bound and does not listen, so the server can listen at the port, however often it is started, and
    nothing else gets it: neither another test nor an outgoing connection.
    """
    while True:
        port = random.randrange(12_000, 32_000)
        reservation = socket.socket()
        try:
            reservation.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        # Only now: with it, the bind above would share the port of another test's reservation. The server sets it too.
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return port, reservation


def _read_lines(stream, lines: queue.Queue) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)

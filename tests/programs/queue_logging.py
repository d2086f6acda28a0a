"""Logging from 8 threads through a QueueHandler, written by a QueueListener to a handler with a lock of its own."""

import io
import logging
import logging.handlers
import queue
import sys
import threading
import time

if len(sys.argv) > 1:
    import watched  # type: ignore[import-not-found]

    watched.begin()

THREADS = 8
RECORDS = 500

output = io.StringIO()
writer = logging.StreamHandler(output)
writer.setFormatter(logging.Formatter("%(threadName)s %(message)s"))
channel: queue.Queue[logging.LogRecord] = queue.Queue(100)


class Blocking(logging.handlers.QueueHandler):
    """Waits for room in the queue instead of dropping records."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put the record in, waiting for room."""
        channel.put(record)


listener = logging.handlers.QueueListener(channel, writer)
listener.start()
logger = logging.getLogger("program")
logger.setLevel(logging.INFO)
logger.propagate = False
logger.addHandler(Blocking(channel))


def work() -> None:
    """Log, some of it from a child logger."""
    child = logger.getChild(threading.current_thread().name)
    for number in range(RECORDS):
        (child if number % 3 else logger).info("record %d", number)


threads = [threading.Thread(target=work, name=f"t{number}") for number in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
while channel.full():  # stop() does not wait for room
    time.sleep(0.001)
listener.stop()
lines = output.getvalue().splitlines()
by_thread = {
    name: [line for line in lines if line.split()[0] == name]
    for name in sorted({x.split()[0] for x in lines})
}
assert all(
    each == [f"{name} record {number}" for number in range(RECORDS)] for name, each in by_thread.items()
)
print({name: len(each) for name, each in by_thread.items()})

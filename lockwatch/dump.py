"""A dump of all threads: what each holds, what it waits for, where it stands; as ``kill -QUIT`` gives for Go and Java.

Guarantee: written to a file descriptor by ``os.write``; takes no lock of the program's or ours. The signal's
handler runs in the main thread, also while that is blocked on a watched lock, a condition, an event, a queue
or a join: those waits are interrupted for it and go on afterwards. While the main thread is inside a C
function that does not return, no Python handler runs.

Cost: a few milliseconds for each thread.
"""

import os
import signal
from typing import Any

from lockwatch import diagnosis
from lockwatch._core import signals
from lockwatch.report import text

_before: dict[int, Any] = {}


def write(fd: int) -> None:
    """Write the dump to a file descriptor."""
    parties = diagnosis.everybody()
    waiting = sum(party.waits_for is not None for party in parties)
    lines = [f"DUMP of process {os.getpid()}: {len(parties)} threads, {waiting} waiting"]
    for party in parties:
        lines += text.party_lines(party, "stall", False, None, text.MAX_FRAMES)
    data = ("\n".join(lines) + "\n").encode(errors="backslashreplace")
    while data:
        data = data[os.write(fd, data) :]


def _handle(number: int, frame: object) -> None:
    del number, frame
    write(2)


def on_signal(name: str) -> None:
    """Write a dump to stderr whenever a signal comes. Only in the main thread, as ``signal.signal``."""
    number = signal.Signals[name]
    if signal.getsignal(number) is not _handle:
        _before[number] = signal.signal(number, _handle)
        signals.harmless(_handle)


def no_signals() -> None:
    """Give the signals taken by `on_signal` back, where they are still ours."""
    for number, handler in list(_before.items()):
        if signal.getsignal(number) is _handle:
            signal.signal(number, handler)
        del _before[number]

"""Runs a batch of programs in this process, under ``lockwatch.install()`` or without, and says how each went.

Each program's lines on stdout: ``B number`` when it begins, ``T number {...}`` for each trouble, ``E number seconds
seconds-to-the-first-finding findings`` when it has ended. A program that does not end is the parent's business.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import random
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

EXPECTED = ("DeadlockError", "BrokenBarrierError", "CancelledError", "InvalidStateError")
"""What a party of a deadlock may end with: its own error, or what the end of another one did to it."""


def say(*words: object) -> None:
    """Write one line, whole, with nothing of Python's locks in between."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Batch:
    """The programs from ``first`` on, made from one seed."""

    def __init__(self, seed: str, *, mutated: bool, plain: bool, inversions: bool = False) -> None:
        self.seed = seed
        self.inversions = inversions
        self.orders: list[Any] = []
        self.mutated = mutated
        self.plain = plain
        self.number = 0
        self.found: list[float] = []
        threading.excepthook = self._failed
        if not plain:
            import lockwatch
            from lockwatch import delivery

            lockwatch.install(cpu=False)
            delivery.add_sink(self._finding)

    def _finding(self, finding: Any) -> None:
        if self.inversions and finding.kind == "lock-order":
            self.orders.append(finding)
            return
        if finding.kind == "deadlock":
            self.found.append(time.monotonic())
        left = finding.kind == "leak" and "(die)' ended while it held RLock" in finding.message
        if not self.mutated or not (finding.kind == "deadlock" or left):
            say("T", self.number, json.dumps({"trouble": finding.kind, "message": finding.message}))
            os.write(2, f"program {self.number}: {finding.message}\n{finding.advice or ''}\n".encode())

    def _failed(self, arguments: Any) -> None:
        if self.mutated and arguments.exc_type.__name__ in EXPECTED:
            return
        self.trouble("error", f"{arguments.exc_type.__name__}: {arguments.exc_value}")
        sys.excepthook(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    def trouble(self, what: str, message: str) -> None:
        """Say what went wrong."""
        say("T", self.number, json.dumps({"trouble": what, "message": message}))

    def run(self, number: int) -> None:
        """Run one program."""
        self.number = number
        self.found.clear()
        rng = random.Random(f"{self.seed}:{number}:{self.mutated}")
        sys.setswitchinterval(rng.choice((0.005, 0.005, 0.0001, 0.000001)))
        say("B", number)
        began = time.monotonic()
        if self.inversions:
            self._inverted(rng)
        elif not self.mutated:
            self._good(rng)
        elif self.plain:
            self._hangs_plainly(rng)
        else:
            self._hanging(rng)
        first = min(self.found, default=0.0) - began if self.found else -1.0
        say("E", number, f"{time.monotonic() - began:.4f}", f"{first:.4f}", len(self.found))
        sys.setswitchinterval(0.005)
        if number % 100 == 0:
            gc.collect()

    def _good(self, rng: random.Random) -> None:
        from tests.fuzz.ordered import Ordered
        from tests.fuzz.scenes import SCENES, join

        beside: list[Callable[[], object]] = [
            partial(scene, rng) for scene in rng.sample(SCENES, rng.choice((0, 0, 1, 1, 2)))
        ]
        program = Ordered(rng, main=True)
        threads = _start(beside)
        try:
            program.run()
            join(threads)
        except BaseException as error:
            self.trouble("error", f"{type(error).__name__}: {error}")
            raise

    def _inverted(self, rng: random.Random) -> None:
        from tests.fuzz.inversions import Inversions

        program = Inversions(rng)
        if self.plain:
            program.run()
            return
        from lockwatch._core import orderbook

        orderbook.reset()  # the same places make the locks of all programs, and one problem is told once
        self.orders.clear()
        program.run()
        orderbook.work_off()
        if program.planted and not self.orders:
            self.trouble("not found", f"a ring of {len(program.ring)}")
        if not program.planted and self.orders:
            self.trouble("false alarm", f"{program.tame}: {self.orders[0].message}")

    def _hanging(self, rng: random.Random) -> None:
        from tests.fuzz.hangs import HANGS, Crew
        from tests.fuzz.ordered import Ordered
        from tests.fuzz.scenes import SCENES

        crew = Crew()
        hang = rng.choice(HANGS)
        hang(rng, crew)
        noise: list[Callable[[], object]] = []
        if rng.random() < 0.4:
            noise.append(Ordered(rng, main=False).run)
        if rng.random() < 0.3:
            noise.append(partial(rng.choice(SCENES), rng))
        beside: list[Callable[[], object]] = [partial(self._undisturbed, act) for act in noise]
        threads = _start([*crew.bodies, *beside])
        for thread in threads:
            while True:
                try:
                    thread.join()
                    break
                except RuntimeError as error:  # main can be the victim, too; it goes on waiting
                    if type(error).__name__ != "DeadlockError":
                        raise
        for pool in crew.pools:
            pool.shutdown(wait=False)
        if not self.found:
            self.trouble("not found", hang.__name__)

    def _undisturbed(self, act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:
            self.trouble("wrong victim", f"{type(error).__name__}: {error}")

    def _hangs_plainly(self, rng: random.Random) -> None:
        from tests.fuzz.hangs import HANGS, Crew

        crew = Crew()
        hang = rng.choice(HANGS)
        hang(rng, crew)
        threads = _start(crew.bodies, daemon=True)
        time.sleep(0.3)
        if not any(thread.is_alive() for thread in threads):
            self.trouble("does not hang", hang.__name__)


def _start(bodies: list[Callable[[], object]], *, daemon: bool = False) -> list[threading.Thread]:
    threads = [threading.Thread(target=body, daemon=daemon, name=_name(body)) for body in bodies]
    for thread in threads:
        thread.start()
    return threads


def _name(body: Any) -> str | None:
    return getattr(getattr(body, "func", body), "__name__", None)


def main(seed: str, first: int, count: int, *, mutated: bool, plain: bool, inversions: bool = False) -> None:
    """Run programs ``first`` to ``first + count - 1``, and end the process without waiting for anybody."""
    faulthandler.enable()
    batch = Batch(seed, mutated=mutated, plain=plain, inversions=inversions)
    for number in range(first, first + count):
        batch.run(number)
    say("Q", 0)
    if plain and mutated:
        os._exit(0)

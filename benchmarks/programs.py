"""Whole programs under ``lockwatch.install()``: what a program pays that does more than take locks.

Each sample is a fresh process that runs one of `PROGRAMS` and prints how long that took, in ms; installing is not in
it. ``python -m benchmarks.programs NAME raw|lockwatch`` is such a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from benchmarks.machine import ROOT
from benchmarks.results import Budget
from benchmarks.runner import Case, Measure, Setup, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TITLE = "Whole programs under install()"
NOTES = (
    "Milliseconds for the program's work in a fresh process, without its start and without installing.",
    "Each program runs for a tenth of a second and more, since what runs for the first time is slow on both sides.",
    "The connection pool is SQLAlchemy's, if that is there; each checkout does 100 us of work.",
)
ROUNDS = 9


def pool_checkouts(times: int) -> None:
    """Sixteen threads share five connections of a QueuePool."""
    import sqlite3

    from sqlalchemy.pool import QueuePool  # type: ignore[import-not-found,unused-ignore]

    pool = QueuePool(
        lambda: sqlite3.connect(":memory:", check_same_thread=False), pool_size=5, max_overflow=0, timeout=60
    )

    def use() -> None:
        for _ in range(times):
            connection = pool.connect()
            _work(100e-6)
            connection.close()

    _together(use, 16)


def small_tasks(times: int) -> None:
    """A ThreadPoolExecutor with eight workers and tasks that do next to nothing."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as executor:
        for future in [executor.submit(_work, 20e-6) for _ in range(16 * times)]:
            future.result()


def producer_consumer(times: int) -> None:
    """Two producers and two consumers on a bounded queue."""
    import queue

    channel: queue.Queue[int | None] = queue.Queue(100)

    def consume() -> None:
        while channel.get() is not None:
            _work(5e-6)

    consumers = [threading.Thread(target=consume) for _ in range(2)]
    for consumer in consumers:
        consumer.start()

    def produce() -> None:
        for number in range(16 * times):
            channel.put(number)

    _together(produce, 2)
    for _ in consumers:
        channel.put(None)
    for consumer in consumers:
        consumer.join()


def logging_threads(times: int) -> None:
    """Eight threads write log records through one handler."""
    import logging

    logger = logging.getLogger("benchmark")
    with open(os.devnull, "w", encoding="utf-8") as sink:
        handler = logging.StreamHandler(sink)
        handler.setFormatter(logging.Formatter("%(asctime)s %(threadName)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False

        def write() -> None:
            for number in range(4 * times):
                logger.warning("number %d", number)

        _together(write, 8)
        logger.removeHandler(handler)


def aiohttp_server(times: int) -> None:
    """Fifty tasks ask an aiohttp server in their loop; an answer takes a semaphore, a lock and a queue of asyncio."""
    import asyncio
    import hashlib

    from aiohttp import ClientSession, web

    async def main() -> None:
        lock, few = asyncio.Lock(), asyncio.Semaphore(8)
        log: asyncio.Queue[str | None] = asyncio.Queue(16)
        visits: dict[str, int] = {}

        async def answer(request: web.Request) -> web.Response:
            path = request.path
            async with few:
                async with lock:
                    visits[path] = visits.get(path, 0) + 1
                    await asyncio.sleep(0)
                digest = hashlib.sha256(path.encode()).hexdigest()
            await log.put(path)
            return web.Response(text=digest)

        async def read_log() -> None:
            while await log.get() is not None:
                pass

        async def ask(session: ClientSession, url: str) -> None:
            for number in range(times // 5 or 1):
                async with session.get(f"{url}/{number % 10}") as response:
                    await response.text()

        reader = asyncio.create_task(read_log())
        application = web.Application()
        application.router.add_get("/{page}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with ClientSession() as session:
            await asyncio.gather(*(ask(session, f"http://127.0.0.1:{port}") for _ in range(50)))
        await runner.cleanup()
        await log.put(None)
        await reader

    asyncio.run(main())


SERVER = "aiohttp"
"""In the topic ``aio``."""
PROGRAMS: dict[str, Callable[[int], None]] = {
    "queue_pool": pool_checkouts,
    "executor": small_tasks,
    "queue": producer_consumer,
    "logging": logging_threads,
    SERVER: aiohttp_server,
}


def _together(body: Callable[[], object], count: int) -> None:
    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _work(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def cases(setup: Setup) -> Sequence[Case]:
    """One case per program."""
    times = 2 if setup.quick else 400
    return [
        Case(
            name=name,
            title=(program.__doc__ or "").splitlines()[0].rstrip("."),
            unit="ms",
            raw=process(name, "raw", times),
            lockwatch=process(name, "lockwatch", times),
            budget=Budget("ratio", 1.05),
        )
        for name, program in PROGRAMS.items()
        if name != SERVER
    ]


def process(name: str, side: str, times: int) -> Measure:
    """Measures one program in a process of its own."""

    def measure() -> float:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.programs", name, side, str(times)],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise UnavailableError(
                (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            )
        return float(done.stdout)

    return measure


def main(name: str, side: str, times: int) -> None:
    """Run one program in this process and print its time."""
    if side == "lockwatch":
        import lockwatch

        lockwatch.install()
    PROGRAMS[name](1)  # warm up
    start = time.perf_counter()
    PROGRAMS[name](times)
    print((time.perf_counter() - start) * 1e3)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

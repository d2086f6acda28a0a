"""Programs with event loops that end by themselves: the twins of what is found. Nothing may be reported."""

from __future__ import annotations

import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.tasks.conftest import Loops

CIRCLE = """
async def circle():
    tasks = {}
    async def body(other):
        await moment()
        await asyncio.shield(tasks[other])
    tasks["a"] = asyncio.create_task(body("b"), name="a")
    tasks["b"] = asyncio.create_task(body("a"), name="b")
    return tasks
"""

WAYS_OUT = {
    "timeout around it": """
        async def main():
            tasks = await circle()
            try:
                async with asyncio.timeout(0.1):
                    await tasks["a"]
            except TimeoutError:
                pass
        """,
    "wait with a time-out": """
        async def main():
            tasks = await circle()
            await asyncio.wait(tasks.values(), timeout=0.1)
        """,
    "wait_for around a gather": """
        async def main():
            tasks = await circle()
            try:
                await asyncio.wait_for(asyncio.gather(*tasks.values()), 0.1)
            except TimeoutError:
                pass
        """,
    "a supervisor that sleeps": """
        async def main():
            tasks = await circle()
            await asyncio.sleep(0.1)
            release(tasks)
        """,
    "a supervisor's object": """
        class Supervisor:
            async def run(self):
                self.tasks = await circle()
                while True:
                    await asyncio.sleep(0.05)
                    if self.tasks:
                        return release(self.tasks)
        async def main():
            await Supervisor().run()
        """,
    "a timer that cancels": """
        async def main():
            tasks = await circle()
            loop = asyncio.get_running_loop()
            loop.call_later(0.1, release, tasks)
            event = asyncio.Event()
            loop.call_later(0.2, event.set)
            await event.wait()
        """,
    "a timer that cancels by a lambda": """
        async def main():
            tasks = await circle()
            asyncio.get_running_loop().call_later(0.1, lambda: release(tasks))
            await asyncio.sleep(0.2)
        """,
    "a thread that cancels": """
        async def main():
            tasks = await circle()
            loop = asyncio.get_running_loop()
            def later(tasks):
                time.sleep(0.1)
                loop.call_soon_threadsafe(release, tasks)
            thread = threading.Thread(target=later, args=(tasks,))
            thread.start()
            await asyncio.sleep(0.3)
        """,
}


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without a GIL the variables of another thread are not looked at",
)
@pytest.mark.parametrize("name", WAYS_OUT)
def test_a_circle_that_somebody_will_cancel(loops: Loops, name: str) -> None:
    """A circle of tasks is no deadlock while a time-out, a timer, a task or a thread has one of them in hand."""
    outcome = loops(
        CIRCLE
        + """
def release(tasks):
    tasks["a"].cancel()
"""
        + dedent(WAYS_OUT[name])
        + """
asyncio.run(main())
print("ok")
"""
    )
    assert outcome.findings == []
    assert outcome.said == ["ok"]


WOKEN = {
    "a timer": """
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, event.set)
        await event.wait()
        """,
    "another task": """
        event = asyncio.Event()
        async def later():
            await asyncio.sleep(0.1)
            event.set()
        task = asyncio.create_task(later())
        await event.wait()
        """,
    "a thread": """
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        def later():
            time.sleep(0.1)
            loop.call_soon_threadsafe(event.set)
        threading.Thread(target=later).start()
        await event.wait()
        """,
    "a thread that waits with a time-out": """
        event, loop, never = asyncio.Event(), asyncio.get_running_loop(), threading.Event()
        def later():
            never.wait(0.1)
            loop.call_soon_threadsafe(event.set)
        threading.Thread(target=later).start()
        await event.wait()
        """,
    "a worker of an executor": """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, time.sleep, 0.1)
        with ThreadPoolExecutor(1) as pool:
            await loop.run_in_executor(pool, time.sleep, 0.1)
        """,
    "a worker that calls back into the loop": """
        loop = asyncio.get_running_loop()
        async def answer():
            await asyncio.sleep(0.05)
            return 42
        def work():
            return asyncio.run_coroutine_threadsafe(answer(), loop).result()
        assert await asyncio.to_thread(work) == 42
        """,
    "a process pool": """
        with ProcessPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, time.sleep, 0.1)
        """,
    "a subprocess": """
        process = await asyncio.create_subprocess_exec("sleep", "0.2")
        assert await process.wait() == 0
        """,
    "a socket": """
        here, there = socket.socketpair()
        here.setblocking(False)
        def later():
            time.sleep(0.1)
            there.send(b"x")
        threading.Thread(target=later).start()
        assert await asyncio.get_running_loop().sock_recv(here, 1) == b"x"
        here.close()
        there.close()
        """,
    "a server and its client": """
        async def serve(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await asyncio.sleep(0.05)
            writer.write(b"hello\\n")
            assert await reader.readline() == b"hello\\n"
            writer.close()
            await writer.wait_closed()
        """,
    "a signal handler of the loop": """
        event = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, event.set)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        await event.wait()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGALRM)
        """,
    "a signal handler": """
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        signal.signal(signal.SIGALRM, lambda *_: loop.call_soon_threadsafe(event.set))
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        await event.wait()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        """,
    "another loop": """
        side = side_loop()
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0.1), side))
        """,
    "another loop that calls back": """
        side, loop = side_loop(), asyncio.get_running_loop()
        event = asyncio.Event()
        async def call():
            await asyncio.sleep(0.1)
            loop.call_soon_threadsafe(event.set)
        asyncio.run_coroutine_threadsafe(call(), side)
        await event.wait()
        """,
    "a child of a gather that fails": """
        never = asyncio.Event()
        async def fail():
            await asyncio.sleep(0.1)
            raise KeyError
        try:
            await asyncio.gather(never.wait(), fail())
        except KeyError:
            never.set()
        """,
    "a member of a group that fails": """
        async def fail():
            await asyncio.sleep(0.1)
            raise KeyError
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
                group.create_task(fail())
        except* KeyError:
            pass
        """,
    "the first of several": """
        events = [asyncio.Event() for _ in range(3)]
        waits = [asyncio.create_task(event.wait()) for event in events]
        asyncio.get_running_loop().call_later(0.1, events[2].set)
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for event in events:
            event.set()
        for done in asyncio.as_completed(waits):
            await done
        """,
    "a consumer's queue": """
        work, done = asyncio.Queue(1), []
        async def consume():
            while (item := await work.get()) is not None:
                await asyncio.sleep(0.01)
                done.append(item)
                work.task_done()
        consumer = asyncio.create_task(consume())
        for item in range(5):
            await work.put(item)
        await work.join()
        await work.put(None)
        await consumer
        """,
    "a generator that is awaited in pieces": """
        async def ticks():
            for number in range(3):
                await asyncio.sleep(0.01)
                yield number
        assert [number async for number in ticks()] == [0, 1, 2]
        """,
    "a cancelled waiter": """
        lock = asyncio.Lock()
        async with lock:
            waiter = asyncio.create_task(lock.acquire())
            await asyncio.sleep(0.01)
            waiter.cancel()
            await asyncio.wait([waiter])
        async with lock:
            pass
        """,
    "a lock of another task": """
        lock = asyncio.Lock()
        async def use():
            for _ in range(5):
                async with lock:
                    await asyncio.sleep(0.005)
        await asyncio.gather(*[use() for _ in range(4)])
        """,
}


@pytest.mark.parametrize("name", WOKEN)
def test_a_task_that_is_woken(loops: Loops, name: str) -> None:
    """A task that waits is woken in the end; nothing is said of it, nor of the loop that slept meanwhile."""
    body = "\n".join("    " + line for line in WOKEN[name].splitlines())
    outcome = loops(f"""
async def main():
    if True:
{body}
if __name__ == "__main__":
    asyncio.run(main())
    print("ok")
    """)
    assert outcome.findings == []
    assert outcome.said == ["ok"]


LOOPS = {
    "one after the other": """
        for _ in range(3):
            asyncio.run(asyncio.sleep(0.01))
        """,
    "the same one again": """
        loop = asyncio.new_event_loop()
        event = asyncio.Event()
        async def wait():
            await event.wait()
        async def put():
            event.set()
        task = loop.create_task(wait())
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.run_until_complete(put())
        loop.run_until_complete(task)
        loop.close()
        """,
    "an idle one in a thread": """
        side = side_loop()
        time.sleep(0.1)
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, 42), side).result() == 42
        side.call_soon_threadsafe(side.stop)
        """,
    "an idle one in each of several threads, and queues": """
        work = queue.Queue()
        async def main():
            return await asyncio.to_thread(work.get)
        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        for _ in threads:
            work.put(1)
        for thread in threads:
            thread.join()
        """,
    "one that is stopped by another thread": """
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        time.sleep(0.1)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        """,
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_that_idle(loops: Loops, name: str) -> None:
    """Loops in threads, one after the other, and stopped from outside."""
    outcome = loops(dedent(LOOPS[name]) + 'print("ok")\n')
    assert outcome.findings == []
    assert outcome.said == ["ok"]

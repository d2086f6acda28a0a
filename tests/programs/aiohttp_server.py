"""An aiohttp server under load: 50 client tasks, state under asyncio locks and a semaphore, work in an executor."""

import asyncio
import hashlib
import sys
import threading
from typing import Any

if len(sys.argv) > 1:
    import watched  # type: ignore[import-not-found]

    watched.begin()

import aiohttp
from aiohttp import web

CLIENTS = 50
REQUESTS = 20
thread_lock = threading.Lock()
visits: dict[str, int] = {}


class Service:
    """What the handlers share."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.few = asyncio.Semaphore(8)
        self.log: asyncio.Queue[str | None] = asyncio.Queue(16)
        self.lines = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Count a visit and answer with a digest of the path, now and then from a worker thread."""
        path = request.path
        async with self.few:
            async with self.lock:
                visits[path] = visits.get(path, 0) + 1
                await asyncio.sleep(0)
            digest = await (
                asyncio.to_thread(self.digest, path) if path.endswith("7") else self.at_once(path)
            )
        await self.log.put(path)
        return web.Response(text=digest)

    def digest(self, path: str) -> str:
        """Digest a path; in a worker thread."""
        with thread_lock:
            return hashlib.sha256(path.encode()).hexdigest()

    async def at_once(self, path: str) -> str:
        """Digest a path; in the loop."""
        return self.digest(path)

    async def count_lines(self) -> None:
        """Consume the log until None comes."""
        while await self.log.get() is not None:
            self.lines += 1


async def client(session: aiohttp.ClientSession, url: str, number: int) -> list[str]:
    """Ask for some pages, one after the other."""
    answers = []
    for request in range(REQUESTS):
        async with session.get(f"{url}/{(number + request) % 10}") as response:
            answers.append(await response.text())
    return answers


async def main() -> None:
    """Serve, ask, and stop."""
    service = Service()
    consumer = asyncio.create_task(service.count_lines())
    application = web.Application()
    application.router.add_get("/{page}", service.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server: Any = site._server
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        results = await asyncio.gather(*(client(session, url, number) for number in range(CLIENTS)))
    await runner.cleanup()
    await service.log.put(None)
    await consumer
    print(hashlib.sha256(repr(results).encode()).hexdigest(), sorted(visits.items()), service.lines)


asyncio.run(main())

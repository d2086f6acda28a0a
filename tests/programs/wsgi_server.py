"""A threaded WSGI server under load: 16 client threads, a bounded number of requests, shared state under a lock."""

import hashlib
import http.client
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if len(sys.argv) > 1:
    import watched  # type: ignore[import-not-found]

    watched.begin()

CLIENTS = 16
REQUESTS = 40
lock = threading.Lock()
visits: dict[str, int] = {}


def application(environment: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Count a visit and answer with a digest of the path."""
    path = environment["PATH_INFO"]
    with lock:
        visits[path] = visits.get(path, 0) + 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [hashlib.sha256(path.encode()).hexdigest().encode()]


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """One thread for each request, all joined at the end."""

    daemon_threads = False
    request_queue_size = 64


class Quiet(WSGIRequestHandler):
    """Says nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def client(number: int) -> list[str]:
    """Ask for some pages, one connection each, as HTTP/1.0 has it."""
    answers = []
    for request in range(REQUESTS):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        connection.request("GET", f"/{(number + request) % 10}")
        answers.append(connection.getresponse().read().decode())
        connection.close()
    return answers


server = make_server("127.0.0.1", 0, application, server_class=Server, handler_class=Quiet)
serving = threading.Thread(target=server.serve_forever)
serving.start()
with ThreadPoolExecutor(CLIENTS) as pool:
    results = list(pool.map(client, range(CLIENTS)))
server.shutdown()
serving.join()
server.server_close()
print(hashlib.sha256(repr(results).encode()).hexdigest(), sorted(visits.items()))

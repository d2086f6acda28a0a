"""Children of ``multiprocessing`` are watched as well; children that cannot be go on without."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunPython

CHILD = """
import threading
lock = threading.Lock()

def work(queue):
    import lockwatch
    from lockwatch import config
    assert lockwatch.is_installed() and isinstance(lock, lockwatch.Lock), lock
    try:
        with lock, lock:
            pass
    except lockwatch.DeadlockError:
        queue.put((config.current().stack_depth, threading.current_thread().name))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("early", [True, False], ids=["multiprocessing first", "lockwatch first"])
def test_children_are_watched(run_python: RunPython, tmp_path: Path, method: str, early: bool) -> None:
    """A child of each start method has the parent's settings and adds its finding to the parent's report file."""
    (tmp_path / "child.py").write_text(CHILD)
    first, second = (
        "import multiprocessing.spawn",
        "import lockwatch; lockwatch.install(report='out.json', stack_depth=9)",
    )
    if not early:
        first, second = second, first
    done = run_python(
        f"""
        if __name__ == "__main__":
            {first}
            {second}
            import multiprocessing, child
            context = multiprocessing.get_context({method!r})
            queue = context.SimpleQueue()
            process = context.Process(target=child.work, args=(queue,))
            process.start()
            assert queue.get() == (9, "MainThread")
            process.join()
            assert process.exitcode == 0
        """,
        timeout=40,
    )
    assert done.returncode == 0, done.stderr
    findings = json.loads((tmp_path / "out.json").read_text())["findings"]
    assert [one["cause"] for one in findings] == ["self"]


def test_grandchildren_and_pools(run_python: RunPython) -> None:
    """Children start their own children in the same way, and pools do."""
    done = run_python(
        """
        import concurrent.futures, multiprocessing

        def installed(depth):
            import lockwatch
            if not depth:
                return lockwatch.is_installed()
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                return pool.submit(installed, depth - 1).result()

        if __name__ == "__main__":
            import lockwatch
            lockwatch.install()
            assert installed(2)
        """,
        timeout=40,
    )
    assert done.returncode == 0, done.stderr


def test_uninstalled_parents_have_plain_children(run_python: RunPython) -> None:
    """After uninstall the preparation data are as ever, and a child has no lockwatch loaded."""
    done = run_python(
        """
        import multiprocessing, sys

        def loaded(queue):
            queue.put("lockwatch" in sys.modules)

        if __name__ == "__main__":
            import lockwatch
            lockwatch.install()
            import multiprocessing.spawn
            assert "lockwatch" in multiprocessing.spawn.get_preparation_data("x")
            kept = multiprocessing.spawn.get_preparation_data
            lockwatch.uninstall()
            assert "lockwatch" not in multiprocessing.spawn.get_preparation_data("x")
            assert "lockwatch" not in kept("x")
            spawn = multiprocessing.spawn
            assert type(spawn.__loader__).__module__.startswith(("_frozen_importlib", "importlib")), spawn.__loader__
            assert spawn.__spec__.loader is spawn.__loader__
            context = multiprocessing.get_context("spawn")
            queue = context.SimpleQueue()
            process = context.Process(target=loaded, args=(queue,))
            process.start()
            assert queue.get() is False
            process.join()
        """,
        timeout=40,
    )
    assert done.returncode == 0, done.stderr


def test_a_child_without_lockwatch_runs_on(run_python: RunPython) -> None:
    """Where the child cannot install lockwatch it says so on stderr, and does its work."""
    done = run_python(
        """
        import multiprocessing

        def work():
            print("worked", flush=True)

        if __name__ == "__main__":
            import lockwatch, lockwatch.patch.children
            lockwatch.install()
            code = lockwatch.patch.children._BEGIN
            lockwatch.patch.children._BEGIN = code.replace("children import", "nowhere import")
            process = multiprocessing.get_context("spawn").Process(target=work)
            process.start()
            process.join()
            assert process.exitcode == 0
        """,
        timeout=40,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "worked\n"
    assert "lockwatch: not installed in this child process: ModuleNotFoundError" in done.stderr

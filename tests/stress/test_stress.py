"""Everything at once, for some seconds: see hammer.py, whose locks are walked by ``_check`` at every stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunPython

HAMMER = Path(__file__).with_name("hammer.py")


@pytest.mark.stress
@pytest.mark.parametrize("seed", [1, 2])
def test_hammering(run_python: RunPython, seed: int) -> None:
    """Time-outs, tries, interrupts, asynchronous exceptions, finalizers, handlers and forks lose and corrupt nothing."""
    done = run_python(HAMMER, "8", str(seed), timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1:] == ["ok"], f"{done.stdout}\n{done.stderr}"


@pytest.mark.stress
def test_a_victim_of_a_hog(run_python: RunPython) -> None:
    """Go's fairness test: beside a thread that re-takes the lock at once, another one gets it ten times."""
    done = run_python(
        """
        import threading, time, lockwatch
        lock = lockwatch.Lock()
        stop = []
        def hog():
            while not stop:
                with lock:
                    time.sleep(0.0001)
        thread = threading.Thread(target=hog)
        thread.start()
        for _ in range(10):
            time.sleep(0.0001)
            with lock:
                pass
        stop.append(1)
        thread.join()
        assert lock.statistics().acquisitions >= 11
        print("ok")
        """,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.stress
def test_many_at_once(run_python: RunPython) -> None:
    """Used from many threads at once and looked into meanwhile, the fast path loses no count and tears no hold."""
    done = run_python(HAMMER.with_name("parallel.py"), "4", "8", timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok\n", done.stderr

"""A submit begins a segment; locks that are taken in a known order in later ones are not looked at, but not lost either."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunPython

PROGRAM = """
import lockwatch
lockwatch.install()
import threading
from concurrent.futures import ThreadPoolExecutor
a, b = threading.Lock(), threading.Lock()
go_on, done = threading.Event(), threading.Event()
def nest(one, two):
    with one:
        with two:
            pass
def turned():
    go_on.wait()
    nest(b, a)
    done.set()
with ThreadPoolExecutor(1) as pool:
    for _ in range(3):
        pool.submit(int).result()
    nest(a, b)
    pool.submit(int)
    nest(a, b)
    {program}
print(len([one for one in lockwatch.recorded_findings() if one.kind == "lock-order"]))
"""

CASES = {
    "before the submit": ("work = pool.submit(turned); go_on.set(); work.result()", 0),
    "after the submit": ("work = pool.submit(turned); nest(a, b); go_on.set(); work.result()", 1),
    "after the submit and the other": ("pool.submit(turned); go_on.set(); done.wait(); nest(a, b)", 1),
    "after a further submit": (
        "pool.submit(turned); go_on.set(); done.wait(); pool.submit(int); nest(a, b)",
        1,
    ),
    "after the result": ("work = pool.submit(turned); go_on.set(); work.result(); nest(a, b)", 0),
}


@pytest.mark.parametrize(("program", "findings"), CASES.values(), ids=list(CASES))
def test_known_order_in_a_later_segment(run_python: RunPython, program: str, findings: int) -> None:
    """An order that was seen before counts for the segment in which it is seen again."""
    done = run_python(PROGRAM.replace("{program}", program))
    assert (done.returncode, done.stdout.split()) == (0, [str(findings)]), done.stderr

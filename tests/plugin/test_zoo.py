"""Each deadlock of the zoo as a test that fails with its reason while the next one passes; each mended one passes.

All of them run in one session, one after the other: what one leaves behind would show in the next. The zoo (programs
named after bugs that real projects reported) is no part of this repository; without it these tests are skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.plugin.conftest import REPOSITORY, RunTests

if TYPE_CHECKING:
    from pathlib import Path

ZOO = REPOSITORY.parent / "shared" / "zoo"

pytestmark = pytest.mark.skipif(not ZOO.is_dir(), reason="the zoo is not here")

STALL = {"mp_queue_join_before_get"}
"""Between two processes: no deadlock that can be proved, so the last resort is to tell it."""

PRELUDE = """
import runpy, signal, threading
import pytest

@pytest.fixture(autouse=True)
def handlers():  # one kernel installs a handler for SIGTERM, which from then on could end any wait
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
"""

TESTS = """
def test_{name}():
    runpy.run_path({path!r}, run_name="__main__")

def test_after_{name}():
    done, lock = [], threading.Lock()
    def work():
        with lock:
            done.append(1)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
"""


def suite(folder: str) -> str:
    """A suite with two tests for each program of a folder."""
    programs = sorted((ZOO / folder).glob("*.py"))
    return PRELUDE + "".join(TESTS.format(name=path.stem, path=str(path)) for path in programs)


def names(folder: str) -> set[str]:
    """The names of the programs of a folder."""
    return {path.stem for path in (ZOO / folder).glob("*.py")}


def test_each_kernel_fails_and_the_next_test_passes(run_tests: RunTests) -> None:
    """Every kernel's test fails with a deadlock (one: a stall); every test that comes after one passes."""
    run = run_tests(suite("kernels"), "-v", "--tb=short", "--lockwatch-stall=8", limit=180)
    words = run.words()
    for name in names("kernels"):
        assert words[f"test_{name}"][0] == "LOCKS", (name, run.out)
        assert words[f"test_after_{name}"] == ["PASSED"], (
            name,
            run.out,
        )  # once: no forked child goes on with the session
        kind = "STALL" if name in STALL else "DEADLOCK"
        assert f"ERROR test_it.py::test_{name}: {kind}" in run.out, name


def test_each_mended_program_passes(run_tests: RunTests) -> None:
    """No mended twin has a finding of any kind."""
    run = run_tests(suite("fixed"), "-v", limit=180)
    assert run.outcomes() == {"passed": 2 * len(names("fixed"))}, run.out
    assert "= lockwatch =" not in run.out


@pytest.mark.parametrize("path", sorted((ZOO / "inversions").glob("*.py")), ids=lambda path: path.stem)
def test_an_inversion_fails(run_tests: RunTests, path: Path) -> None:
    """A program whose lock orders conflict fails its test though it ends well; the next test passes."""
    run = run_tests(PRELUDE + TESTS.format(name=path.stem, path=str(path)), "-v")
    assert run.words() == {f"test_{path.stem}": ["LOCKS"], f"test_after_{path.stem}": ["PASSED"]}, run.out
    assert f"ERROR test_it.py::test_{path.stem}: LOCK ORDER" in run.out


def test_suspicious_programs_pass(run_tests: RunTests) -> None:
    """What looks suspicious and is in order has no finding."""
    run = run_tests(suite("gates"), "-v", limit=180)
    assert run.outcomes() == {"passed": 2 * len(names("gates"))}, run.out

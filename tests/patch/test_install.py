"""``install()`` and its undoing: idempotent, thread-safe, complete, all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import RunPython

SNAPSHOT = """
    import _thread, sys, threading
    ORIGINALS = (threading.Lock, threading.RLock, _thread.allocate_lock, _thread.RLock)

    def snapshot():
        return {
            (name, key): value
            for name, module in sys.modules.items() if not name.startswith("lockwatch")
            for key, value in vars(module).items() if any(value is one for one in ORIGINALS)
        } | {"shutdown": threading._shutdown, "finders": list(sys.meta_path)}
"""


def check(run_python: RunPython, program: str) -> None:
    """Run a program, with ``snapshot()`` defined in it, which asserts."""
    done = run_python(f"{SNAPSHOT}{program}")
    assert done.returncode == 0, done.stderr


def test_install_and_uninstall_are_idempotent(run_python: RunPython) -> None:
    """The second install changes nothing, the first uninstall changes everything back, the second nothing."""
    check(
        run_python,
        """
    import lockwatch
    lockwatch.uninstall()
    assert not lockwatch.is_installed() and threading.Lock is ORIGINALS[0]
    lockwatch.install()
    watched, shutdown = threading.Lock, threading._shutdown
    lockwatch.install()
    assert lockwatch.is_installed() and threading.Lock is watched and threading._shutdown is shutdown
    lockwatch.uninstall()
    assert not lockwatch.is_installed() and threading.Lock is ORIGINALS[0] and threading.RLock is ORIGINALS[1]
    lockwatch.uninstall()
    assert threading.Lock is ORIGINALS[0] and threading.RLock is ORIGINALS[1]
    """,
    )


def test_undo_is_complete(run_python: RunPython) -> None:
    """After uninstall, the namespaces of all modules hold the very objects that they held before; twice over."""
    check(
        run_python,
        """
    import asyncio, concurrent.futures, logging, multiprocessing.spawn, queue, tempfile, unittest.mock
    import lockwatch, lockwatch.patch
    try:
        import psutil
    except ImportError:
        pass
    preparation = multiprocessing.spawn.get_preparation_data
    before = snapshot()
    for _ in range(2):
        lockwatch.install()
        during = snapshot()
        assert set(during) - {"shutdown", "finders"} <= {
            (module, key) for module, key in set(before) - {"shutdown", "finders"}
            if module in ("threading", "_thread", "warnings", "_py_warnings", "__main__")
        }, during
        lockwatch.uninstall()
        assert snapshot() == before
        assert multiprocessing.spawn.get_preparation_data is preparation
    """.replace("__main__", "ORIGINALS"),
    )


def test_many_threads_may_install_at_once(run_python: RunPython) -> None:
    """Whatever threads install and uninstall at the same time, the end is as clean as the beginning."""
    check(
        run_python,
        """
    import lockwatch, lockwatch.patch
    before = snapshot()
    start = threading.Barrier(8)
    failed = []

    def work():
        start.wait()
        try:
            for _ in range(5):
                lockwatch.install()
                with threading.Lock(), threading.RLock():
                    pass
                lockwatch.uninstall()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads: one.start()
    for one in threads: one.join()
    assert not failed, failed
    lockwatch.uninstall()
    after = snapshot()
    assert after == before, (after, before)
    """,
    )


def test_watched_locks_survive_uninstall(run_python: RunPython) -> None:
    """A lock made while lockwatch was installed, held across the uninstall, goes on excluding."""
    check(
        run_python,
        """
    import lockwatch
    lockwatch.install()
    lock, condition = threading.Lock(), threading.Condition()
    lock.acquire()
    lockwatch.uninstall()
    assert not lock.acquire(False)
    lock.release()
    with lock, condition:
        condition.notify_all()
    assert isinstance(lock, lockwatch.Lock)
    """,
    )


def test_blocks_nest_and_restore(run_python: RunPython) -> None:
    """Only the outermost ``installed()`` uninstalls, if lockwatch was not installed before; settings come back."""
    check(
        run_python,
        """
    import lockwatch
    from lockwatch import config
    with lockwatch.installed(stack_depth=7):
        assert lockwatch.is_installed() and config.current().stack_depth == 7
        with lockwatch.installed(stack_depth=8):
            assert config.current().stack_depth == 8
        assert lockwatch.is_installed() and config.current().stack_depth == 7
    assert not lockwatch.is_installed() and config.current().stack_depth == 30
    lockwatch.install()
    try:
        with lockwatch.installed(mode="observe"):
            raise KeyError
    except KeyError:
        pass
    assert lockwatch.is_installed() and config.current().mode == "raise"
    lockwatch.uninstall()
    with lockwatch.installed(mode="off"):
        assert not lockwatch.is_installed() and threading.Lock is ORIGINALS[0]
    """,
    )


def test_off_installs_nothing(run_python: RunPython) -> None:
    """With ``LOCKWATCH=off`` a program that calls install() runs as if it did not."""
    done = run_python(
        """
        import threading
        original = threading.Lock
        import lockwatch
        lockwatch.install()
        assert threading.Lock is original and not lockwatch.is_installed() and lockwatch.unwatched_locks() == ()
        """,
        env={"LOCKWATCH": "off"},
    )
    assert done.returncode == 0, done.stderr


def test_bad_settings_change_nothing(run_python: RunPython) -> None:
    """A setting that does not exist is refused before anything is replaced."""
    check(
        run_python,
        """
    import lockwatch
    try:
        lockwatch.install(stak_depth=3)
    except lockwatch.ConfigError as error:
        assert "stack_depth" in str(error)
    else:
        raise AssertionError
    assert not lockwatch.is_installed() and threading.Lock is ORIGINALS[0]
    """,
    )


def test_install_is_all_or_nothing(run_python: RunPython) -> None:
    """An exception in the last step of install() leaves nothing behind."""
    check(
        run_python,
        """
    import lockwatch, lockwatch.patch
    lock = threading.Lock()
    before = snapshot()

    def broken():
        raise KeyboardInterrupt

    lockwatch.patch.children.replace = broken
    try:
        lockwatch.install()
    except KeyboardInterrupt:
        pass
    assert not lockwatch.is_installed() and snapshot() == before and type(lock) is type(_thread.allocate_lock())
    """,
    )


def test_the_replacement_of_others_is_left_alone(run_python: RunPython) -> None:
    """What another tool put into threading after us stays there when we go."""
    check(
        run_python,
        """
    import lockwatch
    lockwatch.install()
    threading.Lock = other = lambda: None
    wrapped = threading._shutdown
    threading._shutdown = wrapper = lambda: wrapped()
    lockwatch.uninstall()
    assert threading.Lock is other and threading.RLock is ORIGINALS[1] and threading._shutdown is wrapper
    threading.Lock = ORIGINALS[0]
    lockwatch.install()  # wraps the wrapper, and must not find itself inside it
    """,
    )


def test_a_fork_in_the_middle_of_an_install_leaves_no_guard_held(run_python: RunPython) -> None:
    """A child forked while another thread installs can install and uninstall itself."""
    check(
        run_python,
        """
    import os
    import lockwatch, lockwatch.patch
    held, go_on = threading.Event(), threading.Event()

    def hold():
        with lockwatch.patch._guard:
            held.set()
            go_on.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        lockwatch.install()
        lockwatch.uninstall()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    go_on.set()
    thread.join()
    """,
    )


def test_a_report_imports_nothing(run_python: RunPython) -> None:
    """Everything that a report needs is loaded by install(): a stuck program cannot import."""
    done = run_python("""
        import sys, threading
        import lockwatch
        lockwatch.install()
        loaded = set(sys.modules)
        lock = threading.Lock()
        try:
            with lock, lock:
                pass
        except lockwatch.DeadlockError as error:
            assert str(error) and error.__notes__
        else:
            raise AssertionError
        new = set(sys.modules) - loaded
        assert not new, new
    """)
    assert done.returncode == 0, done.stderr


def test_the_report_file_is_written(run_python: RunPython) -> None:
    """``install(report=...)`` writes findings there without ``lockwatch run``."""
    done = run_python("""
        import json, threading
        import lockwatch
        lockwatch.install(report="found.json", mode="raise")
        lock = threading.Lock()
        try:
            with lock, lock:
                pass
        except lockwatch.DeadlockError:
            pass
        with open("found.json") as file:
            assert [finding["cause"] for finding in json.load(file)["findings"]] == ["self"]
    """)
    assert done.returncode == 0, done.stderr

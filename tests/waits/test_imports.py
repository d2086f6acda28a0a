"""The import of a module: the thread that imports it could end the wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

DAEMON = "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"


def test_a_module_that_joins(watched: Watched) -> None:
    """A module that starts a thread which imports that module, and joins it: a cycle, though a thread is awake."""
    outcome = watched(
        f"""
        from scene import *
        {DAEMON}
        def main():
            import slow
        attempt(main)
        """,
        modules={
            "slow": """
            from scene import *
            def load():
                from slow import VALUE  # imports
            if threading.current_thread() is threading.main_thread():  # 3.15 loads it again in the other
                thread = go("loader", load)
                waiting(thread, "import of module")
                thread.join()  # joins
            VALUE = 1
            """
        },
    )
    waits = {
        "MainThread": ("end of thread 'loader'", "joins"),
        "loader": ("import of module 'slow'", "imports"),
    }
    assert outcome.deadlocks == [("cycle", "MainThread", waits)]
    assert outcome.said[0] == "MainThread: DeadlockError at joins"
    assert len(outcome.said) == 2
    assert outcome.said[1].startswith(
        "loader: "
    )  # the module has failed meanwhile; what it gets is Python's business


def test_the_import_closes_it(watched: Watched) -> None:
    """If the import is the last wait of the cycle, the importing thread gets the error before it goes to sleep."""
    outcome = watched(
        f"""
        from scene import *
        {DAEMON}
        def main():
            import slow
        attempt(main)
        """,
        modules={
            "slow": """
            from scene import *
            def load():
                waiting(threading.main_thread(), "end of thread")
                import slow  # imports
            go("loader", load).join()  # joins
            """
        },
    )
    waits = {
        "MainThread": ("end of thread 'loader'", "joins"),
        "loader": ("import of module 'slow'", "imports"),
    }
    assert outcome.deadlocks == [("cycle", "loader", waits)]
    assert outcome.said == ["MainThread: went on", "loader: DeadlockError at imports"]


def test_with_a_lock(watched: Watched) -> None:
    """One thread imports a module that takes a lock, the other imports the module under the lock."""
    outcome = watched(
        f"""
        from scene import *
        import shared
        {DAEMON}
        def under_the_lock():
            with shared.lock:
                until(lambda: shared.begun)
                import slow  # imports
        thread = go("one", under_the_lock)
        until(shared.lock.locked)
        def main():
            import slow
        attempt(main)
        """,
        modules={
            "shared": "import threading\nlock = threading.Lock()\nbegun = []",
            "slow": """
            from scene import *
            import shared
            shared.begun.append(1)
            until(lambda: any(waits_for(one, "import of module") for one in threading.enumerate()))
            with shared.lock:  # takes the lock
                pass
            """,
        },
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("cycle", "MainThread")
    assert found.waits == {
        "MainThread": ("Lock 'lock'", "takes the lock"),
        "one": ("import of module 'slow'", "imports"),
    }
    assert outcome.said[0] == "MainThread: DeadlockError at takes the lock"


def test_a_module_that_falls_asleep(watched: Watched) -> None:
    """A module that waits for an event that nobody sets: its importer is the victim, who waits for the module goes on."""
    outcome = watched(
        """
        from scene import *
        def load():
            import slow
        def load_too():
            import slow  # imports
        one = go("one", load)
        waiting(one, "Event")
        attempt(load_too)
        """,
        modules={
            "slow": "from scene import *\nif not globals().get('again'):\n    threading.Event().wait()  # waits"
        },
    )
    assert outcome.deadlocks[0][:2] == ("asleep", "one")
    assert outcome.deadlocks[0].waits["MainThread"] == ("import of module 'slow'", "imports")
    assert outcome.deadlocks[0].waits["one"][1] == "waits"
    assert outcome.said[-1] == "one: DeadlockError at waits"


def test_slow_modules(watched: Watched) -> None:
    """Many threads that import modules that are only slow, at the same time: no finding, every module is loaded once."""
    outcome = watched(
        """
        from scene import *
        loaded = []
        def load():
            import first, second
            return first.VALUE + second.VALUE
        threads = [go(f"t{n}", load) for n in range(6)]
        for thread in threads:
            thread.join()
        """,
        modules={
            "first": "import time, __main__\n__main__.loaded.append(1)\ntime.sleep(0.1)\nVALUE = 1",
            "second": "import time, first\ntime.sleep(0.1)\nVALUE = first.VALUE",
        },
    )
    assert outcome.findings == []
    assert outcome.said == [f"t{n}: went on" for n in range(6)]


CIRCULAR = {
    "ping": """
        from scene import *
        import shared
        shared.begun.append("ping")
        until(lambda: len(shared.begun) == 2)
        import pong  # imports pong
        """,
    "pong": """
        from scene import *
        import shared
        shared.begun.append("pong")
        until(lambda: len(shared.begun) == 2)
        import ping  # imports ping
        """,
    "shared": "begun = []",
}


def test_circular_imports(watched: Watched) -> None:
    """A circle of import locks alone is Python's business: it sees it and lets one thread have a half made module."""
    outcome = watched(
        """
        from scene import *
        def load(name):
            __import__(name)
        threads = [go(name, load, name) for name in ("ping", "pong")]
        for thread in threads:
            thread.join()
        """,
        modules=CIRCULAR,
    )
    assert outcome.findings == []
    assert outcome.said == ["ping: went on", "pong: went on"]


def test_an_import_that_fails(watched: Watched) -> None:
    """A module that fails while another thread waits for it: that one is let go, to whatever Python has for it; no finding."""
    outcome = watched(
        """
        from scene import *
        import shared
        def load():
            import broken
        one = go("one", load)
        until(lambda: shared.begun)
        two = go("two", load)
        waiting(two, "import of module")
        shared.go_on.append(1)
        one.join(), two.join()
        assert not agents.by_ident[threading.get_ident()].waits
        """,
        modules={
            "shared": "begun, go_on = [], []",
            "broken": "from scene import *\nimport shared\nshared.begun.append(1)\nuntil(lambda: shared.go_on)\n1 / 0",
        },
    )
    assert outcome.findings == []
    assert outcome.said[0] == "one: ZeroDivisionError: division by zero"
    assert len(outcome.said) == 2

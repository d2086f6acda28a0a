"""Where locks are not what they seem, ``install()`` refuses and says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunPython

REFUSED = {
    "gevent": (
        """
gevent = types.ModuleType('gevent.monkey')
gevent.is_module_patched = lambda name: name == 'thread'
sys.modules['gevent.monkey'] = gevent
""",
        "gevent has replaced the locks of threading (gevent.monkey.patch_all())",
    ),
    "eventlet": (
        """
eventlet = types.ModuleType('eventlet.patcher')
eventlet.is_monkey_patched = lambda name: name == 'thread'
sys.modules['eventlet.patcher'] = eventlet
""",
        "eventlet has replaced the locks of threading (eventlet.monkey_patch())",
    ),
    "another tool": (
        "import lockwatch.patch\nclass Tool: pass\nthreading.Lock = Tool()",
        "threading.Lock has been replaced by 'Tool' of __main__",
    ),
    "a function": (
        "import lockwatch.patch\ndef tool(): pass\nthreading.RLock = tool",
        "threading.RLock has been replaced by 'tool' of __main__",
    ),
    "before us": (
        "real = _thread.allocate_lock\ndef allocate_lock(): return real()\n_thread.allocate_lock = allocate_lock",
        "_thread.allocate_lock has been replaced by 'allocate_lock' of __main__",
    ),
    "after us": (
        "import lockwatch.patch\ndef allocate_lock(): pass\n_thread.allocate_lock = allocate_lock",
        "_thread.allocate_lock has been replaced by 'allocate_lock' of __main__",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(run_python: RunPython, case: str) -> None:
    """The error names who replaced what, and nothing is changed."""
    setup, message = REFUSED[case]
    done = run_python(f"""
import _thread, sys, threading, types
{setup}
import lockwatch
before = dict(vars(threading))
try:
    lockwatch.install()
except lockwatch.InstallError as error:
    assert str(error).startswith("lockwatch cannot be installed: " + {message!r}), error
else:
    raise AssertionError
assert not lockwatch.is_installed() and vars(threading) == before
""")
    assert done.returncode == 0, done.stderr


def test_gevent_without_threads_is_fine(run_python: RunPython) -> None:
    """A gevent that keeps away from threads does not matter."""
    done = run_python("""
        import sys, types
        gevent = types.ModuleType("gevent.monkey")
        gevent.is_module_patched = lambda name: name == "socket"
        sys.modules["gevent.monkey"] = gevent
        import lockwatch
        lockwatch.install()
        assert lockwatch.is_installed()
    """)
    assert done.returncode == 0, done.stderr

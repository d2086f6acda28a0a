"""What a program that fails prints under ``lockwatch run`` is what it prints under plain Python, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import RunBoth, Write

FAILING = {
    "exception": "def f():\n    return 1 / 0\n\nf()\n",
    "chained": """
        def f():
            try:
                {}["key"]
            except KeyError as error:
                raise ValueError("from") from error
        try:
            f()
        except ValueError:
            raise RuntimeError("while")
        """,
    "note": "error = ValueError('x')\nerror.add_note('a note')\nraise error\n",
    "group": """
        try:
            raise ExceptionGroup("several", [ValueError(1), TypeError(2)])
        except ExceptionGroup as group:
            raise group from None
        """,
    "syntax": "def f():\n    return (1,\n\nx = = 2\n",
    "indentation": "if True:\n\tx = 1\n        y = 2\n",
    "syntax of an import": "import broken\n",
    "syntax warning": "assert (1, 'always')\nraise ValueError\n",
    "failed import": "import no_such_module\n",
    "name": "import sys\nprint(sys.maxsiz)\n",
    "in a callback": "sorted([1, 2], key=lambda item: item.missing)\n",
    "in a generator": "def g():\n    yield 1\n    raise KeyError('end')\nlist(g())\n",
    "in a thread": """
        import threading
        def work():
            raise ValueError("in the thread")
        thread = threading.Thread(target=work, name="worker")
        thread.start()
        thread.join()
        """,
    "own hook": """
        import sys, traceback
        def hook(kind, value, trace):
            print("hooked", kind, value, sys.excepthook is hook, value.__traceback__ is trace, sys.last_value is value,
                  sys.last_traceback is trace, [frame.name for frame in traceback.extract_tb(trace)])
        sys.excepthook = hook
        def f():
            raise ValueError("x")
        f()
        """,
    "failing hook": """
        import sys
        def hook(kind, value, trace):
            {}["no"]
        sys.excepthook = hook
        raise ValueError("x")
        """,
    "exiting hook": "import sys\nsys.excepthook = lambda *_: sys.exit(7)\nraise ValueError('x')\n",
    "no hook": "import sys\ndel sys.excepthook\nraise ValueError('x')\n",
    "hook seen by atexit": """
        import atexit, sys
        before = sys.excepthook
        atexit.register(lambda: print(sys.excepthook is before))
        raise ValueError("x")
        """,
    "exit from a chain": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise SystemExit('because')\n",
    "interrupt": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(10**9): pass\n",
    "base exception": "class Own(BaseException):\n    pass\nraise Own('x')\n",
    "unprintable": "class Own(Exception):\n    def __str__(self):\n        raise ValueError\nraise Own\n",
    "stderr gone": "import sys\nsys.stderr = None\nraise ValueError('x')\n",
    "encoded": "# coding: latin-1\nx = 'é'\nraise ValueError(len(x))\n",
    "in exec": "exec(compile('def f():\\n  1/0\\nf()', '<made up>', 'exec'))\n",
    "in a forked child": """
        import os, sys
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            print("child ended with", os.waitstatus_to_exitcode(status))
        else:
            raise ValueError("in the child")
        """,
}


@pytest.mark.parametrize("case", FAILING)
@pytest.mark.parametrize("form", ["script", "-m"])
def test_same_text_and_status(case: str, form: str, run_both: RunBoth, write: Write) -> None:
    """Standard error, standard output and exit status are the same as without lockwatch."""
    write("broken.py", "def f(:\n")
    write("failing.py", FAILING[case])
    write("__pycache__/README", "keeps both runs alike: the folder is there before the first")
    plain, watched = run_both(*(["failing.py"] if form == "script" else ["-m", "failing"]))
    assert watched.stderr == plain.stderr
    assert (watched.stdout, watched.returncode) == (plain.stdout, plain.returncode)


@pytest.mark.parametrize("case", sorted(set(FAILING) - {"encoded"}))
def test_same_text_and_status_of_a_command(case: str, run_both: RunBoth, write: Write) -> None:
    """The same for ``-c CODE``, whose lines are shown from 3.13 on."""
    write("broken.py", "def f(:\n")
    code = write("code.txt", FAILING[case]).read_text()
    plain, watched = run_both("-c", code)
    assert watched.stderr == plain.stderr
    assert (watched.stdout, watched.returncode) == (plain.stdout, plain.returncode)


@pytest.mark.parametrize(
    "code", ["\n    1/0\n", "    def f():\n      1/0\n    f()", "if 1:\n  x = '''\n   \n'''\n  1/x"]
)
def test_indented_commands(code: str, run_both: RunBoth) -> None:
    """Indented code is refused up to 3.13 and dedented from 3.14, as by plain Python."""
    plain, watched = run_both("-c", code)
    assert watched.stderr == plain.stderr
    assert watched.returncode == plain.returncode


@pytest.mark.parametrize(
    "words", [["-m", "nope"], ["-m", "nope.part"], ["-m", "json.nope"], ["-m", "script.py"], ["folder"]]
)
def test_same_words_for_what_is_not_there(words: list[str], run_both: RunBoth, write: Write) -> None:
    """A missing module or a folder without __main__.py is refused in Python's own words."""
    write("script.py", "")
    write("folder/other.py", "")
    plain, watched = run_both(*words)
    assert plain.returncode == 1
    assert (watched.returncode, watched.stderr) == (plain.returncode, plain.stderr)

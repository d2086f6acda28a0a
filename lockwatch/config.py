"""Configuration: one frozen `Config`, made of four layers.

In this order, later ones win:

1. the defaults below;
2. ``[tool.lockwatch]`` in the nearest ``pyproject.toml``, looked for from the working directory upwards
   (keys with ``_`` or ``-``);
3. ``LOCKWATCH`` (the mode) and one variable ``LOCKWATCH_<FIELD>`` for each field, such as
   ``LOCKWATCH_STACK_DEPTH``; an empty one counts as not set;
4. what a program says: ``lockwatch.install(**settings)``, ``configure(**settings)``.

Guarantees: a key that does not exist and a value that cannot be are refused with a ConfigError that names the
layer, the key, the value and what is allowed; nothing is changed then. A relative report path is made
absolute when it is read: against the directory of its ``pyproject.toml``, else against the working directory.

Assumptions: `configure`, `apply` and `reset` are not called by several threads at once (``install()`` has its
own lock). The first call of `current` reads files, so whoever wants its answer in a stuck program calls it
before.

Cost: `Config.load` opens at most one file and imports ``tomllib`` only if there is one; `current` is one
look-up.
"""

import difflib
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast, get_args

from lockwatch._core import chains, settings
from lockwatch.errors import ConfigError

Mode = Literal["off", "observe", "raise"]
ForeignThreads = Literal["respect", "ignore"]
Order = Literal["off", "warn", "raise"]

RESERVED = frozenset({"LOCKWATCH_PURE"})
"""Variables of other parts of lockwatch, which are no settings: which twin of the fast path to load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings.

    Attributes:
        mode: ``raise`` gives a deadlock's victim the error; ``observe`` only reports; ``off`` watches
            nothing.
        report: path of the JSON report file, absolute once loaded; None for no file.
        starvation_threshold: seconds of waiting after which a lock is handed to its longest waiter.
        reacquire_grace: seconds for which a second bare ``acquire()`` by one thread may hope for another's
            release.
        foreign_threads: whether to ``respect`` threads that Python does not know of (they may end a wait that
            anybody could end) or to ``ignore`` them.
        exit_status: what ``lockwatch run`` ends with if the program's own status was 0 but an error was
            found.
        stack_depth: frames kept of each party's stack.
        sweep: whether ``install()`` replaces names that were bound early by ``from threading import Lock``.
        adopt: whether ``install()`` replaces lock objects that exist already, where that is provably safe.
        cpu: whether to ask for each party's CPU use.
        stall: seconds of waiting for a lock after which it is reported as stalled; 0 for never. None: 10 under
            ``lockwatch run``, never elsewhere.
        stall_exit: seconds of waiting for a lock after which the process is ended with a report of all threads
            and ``exit_status``; 0 for never.
        dump_signal: a signal, by name or number, at which all waits, holders and stacks are printed to stderr;
            None for none.
        loop_block: seconds for which the thread of a running event loop may be blocked on a lock before that is
            reported as misuse; 0 for never.
        held_across_await: whether a task that awaits while it holds a lock for threads is reported as misuse.
        order: what happens when locks are taken in an order that can deadlock with one seen before: ``warn``
            reports it, ``raise`` also raises LockOrderError at the acquire, ``off`` learns no order.
        order_file: path of a file that keeps the order of lock classes from run to run; None for none.
        order_locks: locks, and lock classes, whose order is remembered.
        order_edges: orders of two locks, and of two lock classes, that are remembered.

    Raises:
        ConfigError: a value that cannot be.
    """

    mode: Mode = "raise"
    report: str | None = None
    starvation_threshold: float = 0.001
    reacquire_grace: float = 1.0
    foreign_threads: ForeignThreads = "respect"
    exit_status: int = 66
    stack_depth: int = 30
    sweep: bool = True
    adopt: bool = True
    cpu: bool = True
    stall: float | None = None
    stall_exit: float = 0.0
    dump_signal: str | None = None
    loop_block: float = 0.1
    held_across_await: bool = False
    order: Order = "warn"
    order_file: str | None = None
    order_locks: int = 10_000
    order_edges: int = 100_000

    def __post_init__(self) -> None:
        for name in _DEFAULTS:
            object.__setattr__(self, name, _checked(name, getattr(self, name), name))

    @classmethod
    def load(cls, **overrides: object) -> "Config":
        """Return the configuration of all four layers.

        Args:
            overrides: the uppermost layer, by field name.

        Raises:
            ConfigError: an unknown key or a bad value in any layer.
        """
        values = {**_from_pyproject(), **_from_environment(os.environ)}
        for key, value in overrides.items():
            if key not in _DEFAULTS:
                raise ConfigError(f"there is no setting {key!r}{_meant(key, _DEFAULTS)}")
            given = _absolute(value, os.curdir) if key in _PATHS else value
            values[key] = _checked(key, given, key)
        return cls(**cast("dict[str, Any]", values))

    def to_dict(self) -> dict[str, object]:
        """Return the settings as a dict of plain values, by field name."""
        return asdict(self)


# --- the configuration in force ---------------------------------------------------------------------------

_current: Config | None = None
_explicit: dict[str, object] = {}


def current() -> Config:
    """Return the configuration in force; the first call loads and applies it.

    Raises:
        ConfigError: on the first call, as for `Config.load`.
    """
    return _current if _current is not None else configure()


def configure(**overrides: object) -> Config:
    """Load anew, with these settings on top of those given explicitly before, and apply.

    Args:
        overrides: settings by field name.

    Returns:
        The configuration now in force.

    Raises:
        ConfigError: an unknown key or a bad value in any layer; nothing has changed then.
    """
    global _explicit
    explicit = {**_explicit, **overrides}
    if "report" in overrides:
        # Made absolute now: a later configure() may happen in another directory.
        explicit["report"] = _absolute(overrides["report"], os.curdir)
    if "order_file" in overrides:
        explicit["order_file"] = _absolute(overrides["order_file"], os.curdir)
    config = Config.load(**explicit)
    _explicit = explicit
    apply(config)
    return config


def apply(config: Config) -> None:
    """Put a configuration in force: give the mechanism its knobs and let `current` return it."""
    global _current
    settings.starvation_threshold_ns = round(config.starvation_threshold * 1e9)
    settings.reacquire_grace_ns = round(config.reacquire_grace * 1e9)
    settings.watch = config.mode != "off"
    settings.raise_deadlocks = config.mode == "raise"
    settings.respect_foreign_threads = config.foreign_threads == "respect"
    settings.stall_ns = round((config.stall or 0.0) * 1e9) or None
    settings.stall_exit_ns = round(config.stall_exit * 1e9) or None
    settings.loop_block_ns = (round(config.loop_block * 1e9) or None) if config.mode != "off" else None
    settings.held_across_await = config.held_across_await
    order = config.order != "off" and config.mode != "off"
    if order and not settings.order:
        chains.forget_all()  # what was seen meanwhile was not looked at
    settings.order = order
    settings.order_raises = config.order == "raise" and config.mode == "raise"
    settings.order_locks, settings.order_edges = config.order_locks, config.order_edges
    _current = config


def explicit() -> dict[str, object]:
    """Return what was given to `configure` so far; `reset` takes it back."""
    return dict(_explicit)


def reset(explicit: Mapping[str, object] | None = None) -> None:
    """Forget what was given to `configure`, or go back to what `explicit` returned; the next `current` loads anew.

    The mechanism's knobs have their defaults until then, unless settings are given here.
    """
    global _current, _explicit
    apply(Config())
    _explicit, _current = {}, None
    if explicit:
        configure(**explicit)


# --- layers ----------------------------------------------------------------------------------------------


def _from_pyproject() -> dict[str, object]:
    try:
        folder = os.getcwd()
    except OSError:  # the directory is gone
        return {}

    while not os.path.isfile(path := os.path.join(folder, "pyproject.toml")):
        parent = os.path.dirname(folder)
        if parent == folder:
            return {}
        folder = parent

    import tomllib

    try:
        with open(path, "rb") as file:
            document: dict[str, object] = tomllib.load(file)
    except (OSError, ValueError) as error:  # a syntax error and bad UTF-8 are ValueErrors
        raise ConfigError(f"{path} cannot be read: {error}") from error

    tool = document.get("tool")
    table = tool.get("lockwatch", {}) if isinstance(tool, dict) else {}
    layer = f"[tool.lockwatch] in {path}"
    if not isinstance(table, dict):
        raise ConfigError(f"{layer} must be a table, not {table!r}")

    values: dict[str, object] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in _DEFAULTS:
            raise ConfigError(f"{layer}: there is no setting {key!r}{_meant(name, _DEFAULTS)}")
        given = _absolute(value, folder) if name in _PATHS else value
        values[name] = _checked(name, given, f"{layer}: {key}")
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    variables = {f"LOCKWATCH_{name.upper()}": name for name in _DEFAULTS}
    values: dict[str, object] = {}
    for variable in sorted(environ):
        text = environ[variable].strip()
        if not variable.startswith("LOCKWATCH_") or variable in RESERVED:
            continue
        if variable not in variables:
            meant = _meant(variable, variables, prefix="LOCKWATCH_")
            raise ConfigError(f"environment: there is no variable {variable}{meant}")
        if text:
            name = variables[variable]
            values[name] = _from_text(name, text, f"environment: {variable}")

    text = environ.get("LOCKWATCH", "").strip()
    if text:
        mode = _from_text("mode", text, "environment: LOCKWATCH")
        if values.setdefault("mode", mode) != mode:
            raise ConfigError(
                f"environment: LOCKWATCH={text} and LOCKWATCH_MODE={environ['LOCKWATCH_MODE']} contradict"
                " each other; set one of them"
            )
    return values


_BOOLEANS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _from_text(name: str, text: str, where: str) -> object:
    """Turn a variable's text into a value of its setting's type, checked."""
    value: object = text
    lowered = text.lower()
    if name in _PATHS:
        value = _absolute(text, os.curdir)
    elif name == "mode" and lowered in _BOOLEANS:
        value = "raise" if _BOOLEANS[lowered] else "off"
    elif name in _WORDS:
        value = lowered
    elif name == "dump_signal":
        pass
    elif isinstance(_DEFAULTS[name], bool):
        value = _BOOLEANS.get(lowered, text)
    else:
        try:
            value = int(text) if isinstance(_DEFAULTS[name], int) else float(text)
        except ValueError:
            pass  # the check says what is allowed
    return _checked(name, value, where)


# --- checks ----------------------------------------------------------------------------------------------

_DEFAULTS: dict[str, object] = {field.name: field.default for field in fields(Config)}
"""Every setting, with its default, whose type is the setting's type."""

_WORDS: dict[str, tuple[str, ...]] = {
    "mode": get_args(Mode),
    "foreign_threads": get_args(ForeignThreads),
    "order": get_args(Order),
}
"""Settings that are one of some words."""

_PATHS = frozenset({"report", "order_file"})
"""Settings that are the path of a file."""

_RANGES: dict[str, tuple[int, int]] = {
    "exit_status": (0, 255),
    "stack_depth": (1, 10_000),
    "order_locks": (10, 10_000_000),
    "order_edges": (10, 100_000_000),
}
"""Settings that are a whole number, with the least and the largest."""

_MOST_SECONDS = 1e9


def _checked(name: str, value: object, where: str) -> object:
    """Return the value as its setting's type, or raise ConfigError that says where and what is allowed."""
    if name in _WORDS:
        words = _WORDS[name]
        if isinstance(value, str) and value in words:
            return value
        allowed = ", ".join(map(repr, words[:-1])) + f" or {words[-1]!r}"
        raise _bad(where, value, allowed + _meant(str(value), words, list_all=False))

    if name in _RANGES:
        least, most = _RANGES[name]
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise _bad(where, value, f"a whole number from {least} to {most}")

    if name in _PATHS:
        if value is None or (isinstance(value, str) and value and "\0" not in value):
            return value
        raise _bad(where, value, "the path of a file")

    if name == "dump_signal":
        return _signal_name(value, where)

    if isinstance(_DEFAULTS[name], bool):
        if isinstance(value, bool):
            return value
        raise _bad(where, value, "true or false (in a variable also 1, 0, yes, no, on, off)")

    if value is None and _DEFAULTS[name] is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and 0 <= cast("float", value) <= _MOST_SECONDS:  # refuses NaN too
        return float(cast("float", value))
    raise _bad(where, value, f"a number of seconds from 0 to {_MOST_SECONDS:,.0f}")


def _signal_name(value: object, where: str) -> str | None:
    """Return the name of a signal given by name or number."""
    if value is None:
        return None
    name = None
    if isinstance(value, str | int) and not isinstance(value, bool):
        by_number = isinstance(value, int) or value.isdecimal()
        try:
            name = (signal.Signals(int(value)) if by_number else signal.Signals[str(value).upper()]).name
        except (KeyError, ValueError):
            pass
    if name is None or name in ("SIGKILL", "SIGSTOP"):
        raise _bad(where, value, "the name or number of a signal that can be handled, such as 'SIGUSR1'")
    return name


def _bad(where: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"{where} cannot be {value!r}; it must be {allowed}")


def _meant(word: str, known: Iterable[str], *, prefix: str = "", list_all: bool = True) -> str:
    """Say which known word was meant, or (list_all) which there are; the prefix they share tells nothing."""
    names = [name.removeprefix(prefix) for name in known]
    close = difflib.get_close_matches(word.removeprefix(prefix), names, n=1)
    if close:
        return f"; did you mean {prefix + close[0]!r}?"
    return f"; there are {', '.join(prefix + name for name in names)}" if list_all else ""


def _absolute(path: object, folder: str) -> object:
    """Make a path absolute; what is none stays as it is, for the check to refuse."""
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if not isinstance(path, str) or not path:
        return path
    return os.path.abspath(os.path.join(folder, os.path.expanduser(path)))

"""The text form of a finding: what a person reads on stderr and in the notes of the error.

Guarantees:

* A pure function of the finding, the working directory and the limits given: same in, same out. * The first
line says it all in one line. Every other line is indented, so findings stay apart in a log. * Each place is
written so that a terminal or an editor can open it: relative to the working directory where it
  lies below it, the whole path elsewhere; in stacks the full ``File "...", line N, in f`` of a traceback.
* What came from the program (names, source lines) is made printable: no control character gets through, so
  neither a thread's name nor a file's can forge lines or colours. No value of a local variable is in it.
* Its size is bounded; what is left out is counted.

Cost: proportional to what is shown.
"""

from collections.abc import Sequence

from lockwatch.findings import Finding, Frame, Hold, Party, Site, WaitsFor, shorten_path

TITLES = {
    "deadlock": "DEADLOCK",
    "lock-order": "LOCK ORDER",
    "leak": "LEAK",
    "misuse": "MISUSE",
    "stall": "STALL",
    "internal": "INTERNAL ERROR IN LOCKWATCH",
}
"""How the first line begins, for each kind of finding."""

MAX_FRAMES = 8
"""Stack entries shown for each party, innermost kept; the report file has all."""

MAX_PARTIES = 12
"""Parties shown, and links of the chain in the first line."""

MAX_HOLDS = 20
"""Resources shown that one party has."""

_COLORS = {"error": "31;1", "warning": "33;1", "note": "36;1", "agent": "1", "fix": "32"}
_HOLDS_LABELS = {"leak": "left held", "lock-order": "had"}
_STACK_LABELS = {"lock-order": "took it at"}
_WAITS_LABELS = {"lock-order": "then took", "stall": "waits for"}


def render(
    finding: Finding, *, color: bool = False, cwd: str | None = None, max_frames: int = MAX_FRAMES
) -> str:
    """Return the finding as text, without a line end after the last line.

    Args:
        finding: what to show.
        color: whether to use ANSI colours; asking the terminal is the caller's business.
        cwd: directory below which paths are shown relative to it; the current one when None.
        max_frames: stack entries shown for each party.
    """
    first = _paint(headline(finding), finding.level, color)
    rest = body(finding, color=color, cwd=cwd, max_frames=max_frames)
    return f"{first}\n{rest}" if rest else first


def headline(finding: Finding) -> str:
    """Return the first line: ``DEADLOCK (cycle of 2): Thread 'a' -> Lock 'x' -> Thread 'b' -> Lock 'y'``."""
    if finding.kind == "deadlock" and finding.cause is not None and finding.cycle:
        return summary(finding.cause, finding.cycle, finding.parties)

    title, message = TITLES[finding.kind], _printable(finding.message)
    return message if message.startswith(title) else f"{title}: {message}"


def summary(cause: str, cycle: Sequence[str], parties: Sequence[Party] = ()) -> str:
    """Return a deadlock in one line; what a finding of it has as its message.

    Args:
        cause: one of ``findings.CAUSES``.
        cycle: agent, resource, agent, resource, ...; an agent that is gone may stand at the end.
        parties: who takes part; says who is gone when the cycle does not.
    """
    names = [_printable(name) for name in cycle]
    links = [" -> ".join(names[start : start + 2]) for start in range(0, len(names) - 1, 2)]
    last = names[-1] if len(names) % 2 else None
    chain = _shortened(links, " -> ")

    if cause == "cycle":
        return f"DEADLOCK (cycle of {len(links):,}): {chain}"
    if cause == "self":
        kind = parties[0].waits_for.kind if parties and parties[0].waits_for is not None else "Lock"
        held = kind.endswith(("Lock", "Semaphore"))
        return f"DEADLOCK (with itself): {chain}, which {'it holds already' if held else 'only it can end'}"
    if cause == "orphan":
        owner = last or next((_printable(party.agent) for party in parties if not party.alive), "its owner")
        return f"DEADLOCK (orphan): {chain}, held by {owner}, who is gone"
    if cause == "asleep":
        wake = "it" if len(links) == 1 else "any of them"
        return f"DEADLOCK (all asleep): {_shortened(links, ', ')}; nobody is left to wake {wake}"
    return f"DEADLOCK (starved): {chain}{f' -> {last}' if last else ''}; all who could help wait themselves"


def body(
    finding: Finding, *, color: bool = False, cwd: str | None = None, max_frames: int = MAX_FRAMES
) -> str:
    """Return all lines of `render` after the first; the arguments are the same."""
    lines: list[str] = []
    for party in finding.parties[:MAX_PARTIES]:
        lines += party_lines(party, finding.kind, color, cwd, max_frames)
    hidden = len(finding.parties) - MAX_PARTIES
    if hidden > 0:
        lines.append(f"  ... {hidden:,} more {'party' if hidden == 1 else 'parties'}")

    if finding.advice:
        first, *more = (_printable(line) for line in finding.advice.splitlines() or [""])
        lines.append(_paint(f"  fix: {first}", "fix", color))
        lines += [_paint(f"       {line}", "fix", color) for line in more]

    seen = [f"process {finding.pid}"] if finding.pid else []
    if finding.test:
        seen.append(f"test {_printable(finding.test)}")
    prefix = "seen in " if seen else ""
    if finding.fingerprint:
        seen.append(f"fingerprint {_printable(finding.fingerprint)}")
    if seen:
        lines.append(f"  {prefix}{', '.join(seen)}")
    return "\n".join(lines)


def humanise(seconds: float) -> str:
    """Return a time span as people say it: ``12 ms``, ``0.8 s``, ``3 min 5 s``, ``2 h 3 min``, ``40 d``."""
    if not seconds >= 0.001:  # also negative and NaN
        return "under 1 ms"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds == float("inf"):
        return "forever"

    whole = round(seconds)
    for size, unit, small_size, small_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            large, small = whole // size, whole % size // small_size
            return f"{large:,} {unit}" + (f" {small} {small_unit}" if small else "")
    return f"{whole} s"


def party_lines(party: Party, kind: str, color: bool, cwd: str | None, max_frames: int) -> list[str]:
    """Return the lines that show one party; the arguments are those of `render`, and the finding's kind."""
    who = _printable(party.agent)
    if party.victim:
        who += " (victim)"
    if not party.alive:
        who += " (gone)"
    details = _details(party)
    lines = [_paint(f"  {who}", "agent", color) + (f"  {details}" if details else "")]

    label = _HOLDS_LABELS.get(kind, "holds")
    rows = [_hold_row(label, hold, cwd) for hold in party.holds[:MAX_HOLDS]]
    if party.waits_for is not None:
        rows.append(_wait_row(_WAITS_LABELS.get(kind, "waits for"), party.waits_for, cwd, kind))
    table = _table(rows)
    hidden = len(party.holds) - MAX_HOLDS
    if hidden > 0:
        table.insert(MAX_HOLDS, f"    ... {hidden:,} more")
    if party.waits_for is not None and party.waits_for.users:
        table.append(f"    used by   {', '.join(map(_printable, party.waits_for.users))}")
    lines += table

    if party.stack and max_frames > 0:
        lines += _stack(party.stack, max_frames, _STACK_LABELS.get(kind, "now at"))
    return lines


def _details(party: Party) -> str:
    """Return ``ident 140213, native id 4711, daemon; asleep, 0.01 s CPU``."""
    facts = []
    if party.runs_in is not None:
        facts.append(f"in the event loop of {_printable(party.runs_in)}")
    if party.ident is not None:
        facts.append(f"ident {party.ident}")
    if party.native_id is not None:
        facts.append(f"native id {party.native_id}")
    if party.daemon:
        facts.append("daemon")
    if party.weight:
        facts.append(f"weight {party.weight:,}")

    groups = [", ".join(facts)] if facts else []
    if party.cpu is not None:
        state = {"sleeping": "asleep, ", "unknown": ""}.get(party.cpu.state, f"{party.cpu.state}, ")
        used = party.cpu.user + party.cpu.system
        groups.append(f"{state}{used:,.2f} s CPU" if used < 1 else f"{state}{used:,.1f} s CPU")
    return "; ".join(groups)


def _hold_row(label: str, hold: Hold, cwd: str | None) -> tuple[str, ...]:
    when = "taken" if hold.age is None else f"taken {'over ' * hold.at_least}{humanise(hold.age)} ago"
    how = "by acquire()" if hold.how == "acquire" else ""
    if hold.count > 1:
        how = f"{hold.count:,} times over" + (", " + how if how else "")
    return (label, _printable(hold.resource), when, _place(hold.taken, cwd), _origin(hold.created, cwd), how)


def _wait_row(label: str, wait: WaitsFor, cwd: str | None, kind: str) -> tuple[str, ...]:
    extra = "" if wait.mode == "exclusive" else f"mode {_printable(wait.mode)}"
    if wait.timeout is not None:
        extra += (", " if extra else "") + f"for {humanise(wait.timeout)} at most"
    when = f"{humanise(wait.age)} ago" if kind == "lock-order" else f"since {humanise(wait.age)}"
    if wait.seen is not None:
        extra += (", " if extra else "") + ("seen once" if wait.seen == 1 else f"seen {wait.seen:,} times")
    return (
        label,
        _printable(wait.resource),
        when,
        _place(wait.where, cwd),
        _origin(wait.created, cwd),
        extra,
    )


def _place(site: Site | None, cwd: str | None) -> str:
    return "somewhere unknown" if site is None else _printable(site.show(cwd))


def _origin(created: Site | None, cwd: str | None) -> str:
    return "" if created is None else _printable(f"created {shorten_path(created.file, cwd)}:{created.line}")


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Align the columns; the first is followed by one space, the others by two."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        shown = [cell for cell, width in zip(cells[1:], widths[1:], strict=True) if width]
        lines.append(f"    {row[0].ljust(9)} {'  '.join(shown)}".rstrip())
    return lines


def _stack(stack: Sequence[Frame], max_frames: int, label: str) -> list[str]:
    hidden = len(stack) - max_frames
    lines = [f"    {label}"]
    if hidden > 0:
        lines.append(f"      ... {hidden:,} more, further out")
    for frame in stack[-max_frames:]:
        lines.append(
            f'      File "{_printable(frame.file)}", line {frame.line}, in {_printable(frame.function)}'
        )
        if frame.source and frame.source.strip():
            lines.append(f"        {_printable(frame.source.strip())}")
    return lines


def _shortened(links: list[str], separator: str) -> str:
    if len(links) > MAX_PARTIES:
        hidden = len(links) - MAX_PARTIES + 1
        links = [*links[: MAX_PARTIES - 2], f"... {hidden:,} more ...", links[-1]]
    return separator.join(links)


def _printable(text: str) -> str:
    """Escape what could move the cursor, set a colour or fail to encode."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _paint(text: str, role: str, color: bool) -> str:
    return f"\x1b[{_COLORS[role]}m{text}\x1b[0m" if color else text

"""Runs the test suite of another project with lockwatch installed, and without, and shows all that lockwatch finds.

Usage: ``python survey.py [--timeout SECONDS] [--only] [--verbose] FOLDER [PYTEST ARGUMENT...]``, with an interpreter whose
environment has what the suite needs; lockwatch itself is taken from this source tree. The suite is run by pytest in
FOLDER. On the side with lockwatch every interpreter installs it when it starts (as in ``under_install.py``), with
``order="warn"``. The exit status is 1 if there was a finding.

For whoever looks at the findings by hand: docs/lock-order-survey.md has the last ones.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # other projects have packages called tests, too
under_install: Any = import_module("under_install")


CHECK = "import sys, threading; sys.exit(not hasattr(threading.Lock, 'statistics'))"


def run(interpreters: Any, side: str, arguments: argparse.Namespace) -> list[dict[str, str]]:
    """Runs the suite on one side, shows how it ended, and returns the findings."""
    found = interpreters.folder / f"{side}.found"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LOCKWATCH")}
    environment |= {"CONFORMANCE_OUTCOMES": str(found), "CONFORMANCE_TEXT": "1", "LOCKWATCH_ORDER": "warn"}
    python = interpreters.folder / side / "bin" / "python"
    found.touch()
    if side == "with":
        subprocess.run(
            [str(python), "-c", CHECK], env=environment, check=True
        )  # whether it is really under watch
    began = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        child = subprocess.Popen(
            [str(python), "-m", "pytest", "-p", "no:cacheprovider", *arguments.pytest],
            cwd=arguments.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            child.wait(arguments.timeout)
        except BaseException as error:
            under_install.put_down(child)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            print("timed out")
        log.seek(0)
        lines = log.read().splitlines()
    shown = (
        lines if arguments.verbose else [line for line in lines if line.startswith(("FAILED", "ERROR"))][:30]
    )
    print(
        "\n".join(
            [*shown, f"{side} lockwatch, {time.monotonic() - began:.0f} s: {lines[-1] if lines else ''}"]
        )
    )
    return [json.loads(line) for line in found.read_text(encoding="utf-8").splitlines()]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--timeout", type=float, default=600, help="seconds for each side (default 600)")
    parser.add_argument("--only", action="store_true", help="run only the side with lockwatch")
    parser.add_argument("--verbose", action="store_true", help="show pytest's whole output")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("pytest", nargs=argparse.REMAINDER, metavar="PYTEST ARGUMENT")
    arguments = parser.parse_args()
    findings: dict[str, list[dict[str, str]]] = {}
    with tempfile.TemporaryDirectory(prefix="survey-", ignore_cleanup_errors=True) as folder:
        interpreters = under_install.Interpreters(Path(folder))
        for side in under_install.SIDES[1:] if arguments.only else under_install.SIDES:
            for record in run(interpreters, side, arguments):
                if "finding" in record:
                    findings.setdefault(record["finding"], []).append(record)
    for records in findings.values():
        print(f"\n{len(records)} times: {records[0]['text']}")
    kinds = [records[0]["kind"] for records in findings.values()]
    print(f"\nfindings: {', '.join(f'{kinds.count(kind)} {kind}' for kind in sorted(set(kinds))) or 'none'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

"""Installs lockwatch in the programs of this folder, and says at the end what it found."""

import atexit
import os

import lockwatch
from lockwatch import delivery


def begin() -> None:
    """Install, and at exit write one line to stderr for each finding."""
    lockwatch.install(cpu=False)
    delivery.add_sink(lambda finding: os.write(2, f"FINDING {finding.kind}: {finding.message}\n".encode()))
    atexit.register(lambda: os.write(2, b"WATCHED\n"))

"""Makes the modules beside this one importable: ``tests`` is no package that a run could rely on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _load(name: str) -> None:
    spec = importlib.util.spec_from_file_location(f"mutex_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"mutex_{name}"] = module
    spec.loader.exec_module(module)


for _name in (
    "liveness",
    "rewriting",
    "simulation",
    "identity",
    "world",
    "programs",
    "explorer",
    "mutations",
):
    _load(_name)

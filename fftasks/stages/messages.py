"""KFP's message classes, without kfp: what documents are parsed with before they are written."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType


@cache
def load_messages() -> ModuleType:
    """Load the messages of a pipeline.

    The package kfp-pipeline-spec puts its one module into the namespace of kfp, so importing it the usual
    way executes kfp/__init__.py, the whole SDK (0.4 s and more). Its file needs protobuf only. Protobuf
    keeps one class per message, so it does not matter whether kfp is imported before or afterwards.
    """
    import importlib.util

    path = locate_module("kfp-pipeline-spec", "kfp/pipeline_spec/pipeline_spec_pb2.py")
    spec = importlib.util.spec_from_file_location("fftasks.stages._pipeline_spec_pb2", path)
    if spec is None or spec.loader is None:  # pragma: no cover - a .py file always has both
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def locate_module(distribution: str, path: str) -> Path:
    """Return where a file of an installed distribution is."""
    import importlib.metadata

    return Path(str(importlib.metadata.distribution(distribution).locate_file(path)))

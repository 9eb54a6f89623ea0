"""From where settings come: later layers win, and each value knows its place.

default, config/default.yaml, config/<profile>.yaml, FFTASKS_<SECTION>__<KEY>
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fftasks.settings.config import choose_files, read_file, read_tree
from fftasks.settings.environment import name_variable, read_environment
from fftasks.settings.nodes import Layer
from fftasks.settings.patterns import read_layers, warn_of_secrets
from fftasks.settings.rule import Value
from fftasks.settings.tree import RULES, SECTIONS, Settings
from fftasks.settings.workflows import check_workflows


def load(
    folder: Path, profile: str | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings of the project in a folder.

    profile: name of config/<profile>.yaml; FFTASKS_PROFILE if None
    environ: the environment; the process's own if None

    Raises SettingsError with file, line, key, what is allowed and the nearest name.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Value] = {}
    warnings: list[str] = []
    nodes: list[Layer] = []
    for name in choose_files(folder, profile, environ):
        root = read_tree(folder, name)
        found = read_file(root, name, RULES, environ)
        warnings += [
            f"{value.origin}: {key} stands in the file: better ${{NAME}}, or {name_variable(key)}"
            for key, value in found.items()
            if value.is_written_out
        ]
        values |= found
        nodes += read_layers(root, name, environ)
    warnings += warn_of_secrets(nodes)
    values |= read_environment(environ, RULES)
    filled = _fill(values, check_workflows(folder, values.get("workflows")))
    return replace(filled, nodes=tuple(nodes), warnings=tuple(warnings))


def _fill(values: Mapping[str, Value], workflows: tuple[str, ...]) -> Settings:
    sections = {
        name: kind(
            **{k.partition(".")[2]: v.value for k, v in values.items() if k.startswith(f"{name}.")}
        )
        for name, kind in SECTIONS.items()
    }
    origins = {key: value.origin for key, value in values.items()}
    for key, value in values.items():
        if isinstance(value.value, tuple):
            origins |= {f"{key}[{index}]": origin for index, origin in enumerate(value.items)}
    return Settings(workflows=workflows, **sections, origins=origins)

"""A project with settings: what its files say, and what is said about them."""

import pytest

from fftasks.config import load_settings
from fftasks.errors import SettingsError

FIRST = "workflows: [wf.py]\n"


def write(folder, text, profile="default"):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "config" / f"{profile}.yaml").write_bytes(data)


def refuse(folder, profile=None, environ=None):
    with pytest.raises(SettingsError) as caught:
        load_settings(folder, profile, environ or {})
    return caught.value

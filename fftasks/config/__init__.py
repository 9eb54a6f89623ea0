"""Settings: one tree of dataclasses, filled from config/ and from the environment.

`${NAME}` in a file is taken from the environment; `$${` is a plain `${`.
"""

from __future__ import annotations

from fftasks.config.loader import load_settings as load_settings
from fftasks.config.node_settings import NodeSettings as NodeSettings
from fftasks.config.node_settings import SettingOverride as SettingOverride
from fftasks.config.specification import SettingSpec as SettingSpec
from fftasks.config.tree import SECTIONS as SECTIONS
from fftasks.config.tree import SETTING_SPECS as SETTING_SPECS
from fftasks.config.tree import ContextSettings as ContextSettings
from fftasks.config.tree import ImageSettings as ImageSettings
from fftasks.config.tree import KFPSettings as KFPSettings
from fftasks.config.tree import LocalSettings as LocalSettings
from fftasks.config.tree import RegistrySettings as RegistrySettings
from fftasks.config.tree import Settings as Settings
from fftasks.config.tree import format_default_file as format_default_file

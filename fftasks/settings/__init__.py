"""Settings: one tree of dataclasses, filled from config/ and from the environment.

`${NAME}` in a file is taken from the environment; `$${` is a plain `${`.
"""

from fftasks.settings.layers import load as load
from fftasks.settings.nodes import Layer as Layer
from fftasks.settings.nodes import NodeSettings as NodeSettings
from fftasks.settings.rule import Rule as Rule
from fftasks.settings.tree import RULES as RULES
from fftasks.settings.tree import SECTIONS as SECTIONS
from fftasks.settings.tree import ContextSettings as ContextSettings
from fftasks.settings.tree import ImageSettings as ImageSettings
from fftasks.settings.tree import KFPSettings as KFPSettings
from fftasks.settings.tree import LocalSettings as LocalSettings
from fftasks.settings.tree import RegistrySettings as RegistrySettings
from fftasks.settings.tree import Settings as Settings
from fftasks.settings.tree import format_default as format_default

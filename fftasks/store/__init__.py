"""What is kept on disk of results: artifacts, traces, their signatures, and the history of runs."""

from fftasks.store.store import Store as Store
from fftasks.store.store import Trace as Trace
from fftasks.store.store import is_alive as is_alive
from fftasks.store.store import name_pages as name_pages
from fftasks.store.store import remove_leftovers as remove_leftovers

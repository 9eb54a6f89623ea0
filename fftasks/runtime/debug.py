"""Python's debugger at the place where a node's function has raised."""

from __future__ import annotations

import sys
from collections.abc import Callable

from fftasks.runtime.call import find_user_traceback, format_user_traceback

Examine = Callable[[Exception], None]


def debug(error: Exception) -> None:
    """Show an error, and let whoever sits at the terminal look at its frames."""
    import pdb  # noqa: T100 - it is what was asked for

    print(format_user_traceback(error), file=sys.stderr, flush=True)
    pdb.post_mortem(find_user_traceback(error))

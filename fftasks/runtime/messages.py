"""Messages between processes, through a pipe: four bytes of length, and marshal.

JSON's encoder would be a lot to copy for a process that was forked and lives a millisecond.
"""

from __future__ import annotations

import marshal
import os
import struct
from collections.abc import Iterator
from typing import Any

_LENGTH = struct.Struct("<I")  # of a message, before it


class Messages:
    """The messages that another process writes to a pipe.

    Attributes:
        ended: Whether the pipe was closed at its other end.
    """

    def __init__(self, descriptor: int) -> None:
        self.ended = False
        self._descriptor = descriptor
        self._left = bytearray()

    def read(self) -> Iterator[Any]:
        """Wait for one piece of data, and yield the messages that are complete with it.

        Raises:
            ValueError, EOFError, TypeError: The data are no message; nothing can be read after that.
        """
        piece = os.read(self._descriptor, 1 << 16)
        if not piece:
            self.ended = True
        self._left += piece
        while len(self._left) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._left)[0]
            if end > len(self._left):
                break
            message = marshal.loads(bytes(self._left[_LENGTH.size : end]))
            del self._left[:end]
            yield message


def format_message(message: Any) -> bytes:
    """Return a message as it goes through a pipe."""
    data = marshal.dumps(message)
    return _LENGTH.pack(len(data)) + data

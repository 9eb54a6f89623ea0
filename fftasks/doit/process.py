"""A process of doit for tasks that are no nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from doit.control import ExecNode

    from fftasks.doit.dispatcher import Dispatcher


class TaskProcess:
    """A process of doit for tasks that are no nodes; it stays to the end, when it tears them down.

    node: what it is at, or None
    """

    def __init__(self, runner: Dispatcher) -> None:
        from multiprocessing import Pipe, Process

        self.node: ExecNode | None = None
        self.connection, theirs = Pipe()
        line = _Line(theirs)
        self._process = Process(
            target=runner.execute_task_subprocess, args=(line, line, type(runner.reporter))
        )
        self._process.start()
        theirs.close()

    def end(self) -> list[dict[str, Any]]:
        """Let it tear down its tasks; return what it has to say of that."""
        self.connection.send(None)
        messages = []
        try:
            while True:
                messages.append(self.connection.recv())
        except EOFError:
            self._process.join()
        return messages

    def terminate(self) -> None:
        """End it at once."""
        self._process.terminate()


class _Line:
    """One end of a pipe, as the two queues that a process of doit has."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection

    def get(self) -> Any:
        """Return the next job."""
        return self._connection.recv()

    def put(self, message: dict[str, Any]) -> None:
        """Send a result, or a call of the reporter."""
        self._connection.send(message)

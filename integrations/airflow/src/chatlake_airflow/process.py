"""A process in a group of its own: what it says on stderr as it comes, its stdout as a whole, and how it is stopped."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO

# Of what was said on stderr, this many lines are kept for the error.
KEPT_LINES = 50


class Process:
    """
    A running command. Leaving the context stops what still runs, so that a timeout does not leave it behind.

    :param on_line: gets each line of stderr as it comes, from a thread.
    :param grace_seconds: from SIGTERM to SIGKILL.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        on_line: Callable[[str], None],
        grace_seconds: float,
    ) -> None:
        self._on_line = on_line
        self._grace_seconds = grace_seconds
        self._stdout = b""
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._escalation: threading.Timer | None = None
        self._process = subprocess.Popen(
            list(argv),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A group of its own: a signal to Airflow's group would otherwise reach it besides, and SIGKILL among them.
            start_new_session=True,
        )
        # Both are read whatever the main thread does, which may be in a signal handler: a full pipe would hold up the stop.
        # What they log says of which task it is by the context of this thread.
        self._readers = [
            threading.Thread(target=contextvars.copy_context().run, args=(read, pipe), daemon=True)
            for read, pipe in ((self._read_stdout, self._process.stdout), (self._read_stderr, self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read_stdout(self, pipe: IO[bytes]) -> None:
        self._stdout = pipe.read()

    def _read_stderr(self, pipe: IO[bytes]) -> None:
        for raw in pipe:
            line = raw.decode("utf-8", errors="backslashreplace").rstrip()
            self._last_lines.append(line)
            self._on_line(line)

    def wait(self) -> int:
        """The exit code, negative for a signal that it did not handle, once it has ended and all that it said was read."""
        returncode = self._process.wait()
        if self._escalation is not None:
            self._escalation.cancel()
        for reader in self._readers:
            reader.join()
        return returncode

    def stop(self) -> None:
        """
        SIGTERM, and SIGKILL after the grace. Returns at once: whoever waits goes on waiting.

        It may run in a signal handler that has interrupted :meth:`wait`, which holds the lock that waiting here would need.
        """
        if self._escalation is None and self._process.returncode is None:
            self._signal(signal.SIGTERM)
            self._escalation = threading.Timer(self._grace_seconds, self._signal, (signal.SIGKILL,))
            self._escalation.daemon = True
            self._escalation.start()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    @property
    def stdout(self) -> str:
        """What it has printed, once it has ended."""
        return self._stdout.decode("utf-8", errors="backslashreplace")

    @property
    def last_lines(self) -> list[str]:
        """The end of what it has said on stderr."""
        return list(self._last_lines)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self.stop()
            self.wait()

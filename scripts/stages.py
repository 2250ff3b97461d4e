"""The stages of a script: programs that end with it, and how long each stage took.

Must not know what the programs do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Stopped(Exception):
    """Something is missing or has failed; the text is for the person who ran this."""


@dataclass
class Commands:
    """Runs programs, and ends them all when it is stopped; the terminal's Ctrl-C does not reach them."""

    running: list[subprocess.Popen[str]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, *command: str, text: str | None = None, environ: Mapping[str, str] | None = None) -> str:
        """Its stdout. Raises Stopped with the end of its output."""
        if self.stopped.is_set():
            raise Stopped("interrupted")
        stdin = subprocess.DEVNULL if text is None else subprocess.PIPE
        environ = {**os.environ, **(environ or {})}
        with subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            cwd=ROOT,
            text=True,
            start_new_session=True,
        ) as process:
            self.running.append(process)
            out, err = process.communicate(text)
            self.running.remove(process)
        if process.returncode:
            said = "\n".join((out + err).strip().splitlines()[-30:])
            raise Stopped(f"`{' '.join(command)}` ended with {process.returncode}:\n{said}")
        return out

    def stop(self) -> None:
        """Ends all that run; nothing more starts."""
        self.stopped.set()
        for process in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


@dataclass
class Clock:
    """Prints what happens, and how long each stage took."""

    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """One line, with the seconds since the beginning."""
        print(f"e2e {time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures what is done inside."""
        began = time.monotonic()
        yield
        self.say(f"{name} (took {time.monotonic() - began:.1f} s)")

"""kubectl, as a user has it, for one context and namespace."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Runs kubectl; an empty ``context`` means the current one."""

    context: str
    namespace: str

    def command(self, *arguments: str) -> list[str]:
        """The whole command line."""
        chosen = [f"--context={self.context}"] if self.context else []
        return ["kubectl", *chosen, f"--namespace={self.namespace}", *arguments]

    def attempt(
        self, *arguments: str, manifest: Manifest | str | None = None, seconds: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """The finished process, however it ended; ``manifest`` becomes its stdin."""
        text = manifest if isinstance(manifest, str) or manifest is None else json.dumps(manifest)
        return subprocess.run(
            self.command(*arguments), input=text, capture_output=True, text=True, timeout=seconds, check=False
        )

    def __call__(self, *arguments: str, manifest: Manifest | str | None = None, seconds: float = 120.0) -> str:
        """Its stdout; raises RuntimeError with its stderr when it fails."""
        done = self.attempt(*arguments, manifest=manifest, seconds=seconds)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def refused(self, *arguments: str, manifest: Manifest | str | None = None) -> str:
        """The stderr of a command that must fail."""
        done = self.attempt(*arguments, manifest=manifest)
        if done.returncode == 0:
            raise AssertionError(f"kubectl {' '.join(arguments)} was not refused: {done.stdout.strip()}")
        return done.stderr.strip()

    def apply(self, manifest: Manifest | str) -> str:
        """``kubectl apply -f -``."""
        return self("apply", "-f", "-", manifest=manifest)

    def json(self, *arguments: str) -> Any:
        """Its stdout with ``-o json``, read."""
        return json.loads(self(*arguments, "-o", "json"))

"""The flags with which `dotnet` builds quietly and leaves no process behind. Must not know what is built."""

from __future__ import annotations

import os


def quiet_flags() -> list[str]:
    """With the server of the compiler that `make dotnet` ends afterwards, named by an environment variable; else none.

    MSBuild reads the variable.
    """
    own = [] if os.environ.get("SHAREDCOMPILATIONID") else ["-p:UseSharedCompilation=false"]
    return ["--nologo", "-v:quiet", "-nodeReuse:false", *own]

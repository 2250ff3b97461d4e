"""What all tests rely on, however they are started."""

from __future__ import annotations

import signal

# A shell without job control (`make test &` in a script, some CI) starts its background commands with SIGINT ignored,
# and a child inherits that; tests send SIGINT to children, which must find it as a terminal would have it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

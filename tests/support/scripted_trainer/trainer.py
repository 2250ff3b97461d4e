"""A trainer that learns nothing and does what the run says, with the standard library only.

``environment.gymnasium.kwargs``: ``script`` is a list with a word for each attempt, the last one for all further ones:

    train       a step every ``tick`` seconds until totalTimesteps, then done; on SIGTERM a checkpoint, then exit 143
    crash       an exception        oom     takes memory until it is killed
    permanent   fails for good      done    ends at once, as if trained
    stubborn    as train, and ignores SIGTERM

Attempts and steps are kept in the run's folder on the volume, as the real trainer does.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

RUN_ID, SPEC = os.environ["RUN_ID"], json.loads(os.environ["RUN_SPEC"])
FOLDER = Path(os.environ["MODELS_DIR"], "runs", RUN_ID, os.environ["RUN_UID"][:8])
KWARGS = SPEC.get("environment", {}).get("gymnasium", {}).get("kwargs", {})


class Stopped(Exception):
    """SIGTERM has come."""


def stop(*_: object) -> None:
    raise Stopped


def claim() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    attempt = 1
    while True:
        try:
            (FOLDER / f"attempt-{attempt}").touch(exist_ok=False)
        except FileExistsError:
            attempt += 1
        else:
            return attempt


def end(attempt: int, code: int, timesteps: int, failure: dict[str, str] | None = None) -> int:
    message: dict[str, object] = {"attempt": attempt, "exitCode": code, "timesteps": timesteps}
    if failure is not None:
        message["failure"] = failure
    Path(os.environ["TERMINATION_MESSAGE_PATH"]).write_text(json.dumps(message))
    return code


def train(attempt: int) -> int:
    total, tick, saved = SPEC["totalTimesteps"], float(KWARGS.get("tick", 0.05)), FOLDER / "timesteps"
    timesteps = int(saved.read_text()) if saved.exists() else 0
    try:
        while timesteps < total:
            time.sleep(tick)
            timesteps += 1
    except Stopped:
        saved.write_text(str(timesteps))
        return end(attempt, 143, timesteps)
    saved.write_text(str(timesteps))
    return end(attempt, 0, timesteps)


def main() -> int:
    signal.signal(signal.SIGTERM, stop)
    attempt = claim()
    script = KWARGS.get("script", ["train"])
    word = script[min(attempt, len(script)) - 1]
    print(f"attempt {attempt} does {word}", flush=True)
    if word == "permanent":
        return end(attempt, 78, 0, {"reason": "UnsuitableSpace", "message": "no attempt can succeed"})
    if word == "crash":
        raise RuntimeError("the script says crash")
    if word == "oom":
        held = []
        while True:
            held.append(b"x" * 2**22)
    if word == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if word == "done":
        return end(attempt, 0, SPEC["totalTimesteps"])
    return train(attempt)


if __name__ == "__main__":
    sys.exit(main())

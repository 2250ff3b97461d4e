"""Readers beside a writer that publishes, moves pointers and removes old models as fast as it can."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from aisandbox_model_store import RunFolder, RunStore

STEPS = 150
PUBLISH_MANY = """
import sys
from pathlib import Path
from aisandbox_model_store import RunStore

writer = RunStore(Path(sys.argv[1])).run("r").claim(1)
for step in range(1, int(sys.argv[2]) + 1):
    text = str(step).encode()
    writer.point("latest", writer.publish_model(step, {"policy.onnx": text * 2000, "metadata.json": text * 500}))
    writer.retain_models(1)
"""


def test_reader_beside_a_writer_never_sees_a_torn_model(tmp_path: Path) -> None:
    run: RunFolder = RunStore(tmp_path).run("r")
    first = run.claim(0)
    first.point("latest", first.publish_model(0, {"policy.onnx": b"0" * 2000, "metadata.json": b"0" * 500}))
    process = subprocess.Popen([sys.executable, "-c", PUBLISH_MANY, str(tmp_path), str(STEPS)])
    seen: list[int] = []
    deadline = time.monotonic() + 60
    try:
        while (not seen or seen[-1] < STEPS) and process.poll() in (None, 0) and time.monotonic() < deadline:
            bundle = run.load_model("latest")
            step = bundle.published.timesteps
            text = str(step).encode()
            assert bundle.files == {"policy.onnx": text * 2000, "metadata.json": text * 500}
            seen.append(step)
            assert all(published.timesteps >= step for published in run.models()[:1])
    finally:
        process.kill()
        process.wait()
    assert seen[-1] == STEPS
    assert seen == sorted(seen)
    assert len(set(seen)) > 5

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from aisandbox_crds import TRAINER_NUMBERS
from aisandbox_operator.__main__ import EPILOG
from aisandbox_operator.errors import AddressInUse
from aisandbox_operator.metrics import Metrics
from aisandbox_operator.probes import Probes
from aisandbox_operator.program import serve_metrics
from aisandbox_operator.settings import Settings

NEEDED = {"POD_NAMESPACE": "sandbox", "TRAINER_IMAGE": "trainer:1", "METRICS_PORT": "0", "PROBE_PORT": "0"}


def operator(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("KUBE", "POD_", "TRAINER_"))}
    return subprocess.run(
        [sys.executable, "-m", "aisandbox_operator", *arguments],
        env={**clean, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_variable() -> None:
    fields = set(Settings.__dataclass_fields__) - {"namespace", "trainer_numbers"}
    assert {"POD_NAMESPACE", *TRAINER_NUMBERS} | {field.upper() for field in fields} == {
        line.split()[0] for line in EPILOG.splitlines() if line.startswith("  ")
    }
    assert "TRAINER_IMAGE" in operator("--help").stdout


def test_missing_setting_is_an_error_without_a_traceback() -> None:
    done = operator()
    assert (done.returncode, done.stderr) == (1, "error: POD_NAMESPACE: must be set\n")


def test_missing_cluster_is_an_error_without_a_traceback() -> None:
    done = operator(**NEEDED, KUBECONFIG="/nowhere/config")
    assert done.returncode == 1
    assert "error: no cluster is configured: " in done.stderr
    assert "Traceback" not in done.stderr


async def test_probe_answers_with_the_problem() -> None:
    problems = ["", "the watch of pods delivers nothing"]
    probes = Probes(lambda: problems.pop(0), str)
    port = await probes.serve(0)
    try:
        assert await _get(port) == (200, "ok\n")
        assert await _get(port) == (503, "the watch of pods delivers nothing\n")
        with pytest.raises(AddressInUse, match="PROBE_PORT"):
            await Probes(str, str).serve(port)
    finally:
        await probes.close()


async def test_operator_is_ready_once_it_has_seen_everything_and_while_it_is_well() -> None:
    unready, problems = ["not listed yet", "", ""], ["", "silent"]
    probes = Probes(lambda: problems.pop(0), lambda: unready.pop(0))
    port = await probes.serve(0)
    try:
        assert await _get(port, "readyz") == (503, "not listed yet\n")
        assert await _get(port, "readyz") == (200, "ok\n")
        assert await _get(port, "readyz") == (503, "silent\n")
    finally:
        await probes.close()


async def _get(port: int, path: str = "healthz") -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


def test_metrics_are_served_and_a_port_in_use_is_an_error() -> None:
    server = serve_metrics(Metrics(), 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        assert 'aisandbox_operator_runs{phase="Running"} 0.0' in text
        with pytest.raises(AddressInUse, match="METRICS_PORT"):
            serve_metrics(Metrics(), server.port)
    finally:
        server.close()


def test_log_of_libraries_has_the_same_format() -> None:
    code = (
        "import logging, structlog; from aisandbox_operator.__main__ import configure_log; configure_log('info');"
        "structlog.get_logger('aisandbox_operator.x').info('run phase changed', run='walk');"
        "structlog.get_logger('aisandbox_operator.x').debug('hidden');"
        "logging.getLogger('kopf.x').info('noise');"
        "logging.getLogger('kopf.x').error('Request attempt #1 failed; will retry: GET')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    ours, kopfs = (json.loads(line) for line in done.stderr.splitlines())
    assert (ours["event"], ours["run"], ours["level"]) == ("run phase changed", "walk", "info")
    assert (kopfs["logger"], kopfs["level"]) == ("kopf.x", "warning")

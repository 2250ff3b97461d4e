"""The C# of the documents compiles and runs, and simulators in C# pass the compliance suite, train and stop.

Needs the .NET SDK (`make dotnet`); without one the tests are skipped, unless REQUIRE_DOTNET is set, as CI does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from aisandbox_crds.spec import Algorithm, GrpcEnvironment, TrainingRunSpec
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_environment import SimulatorLost, SimulatorSession, check_simulator, read_recordings, replay_episodes
from aisandbox_model_store import RunStore
from aisandbox_trainer.run.attempt import run_attempt
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from dotnet_flags import quiet_flags
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waiting import wait_until

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
BUILD = ROOT / "build" / "dotnet"
CLIENT_README = "clients/dotnet/src/AISandbox.Client/README.md"
POLICY_README = "clients/dotnet/src/AISandbox.Policy/README.md"
SPACES = ["box", "scalar", "discrete", "multi_discrete", "multi_binary", "image", "integers", "dict"]
"""The kinds of spaces that Spaces/Program.cs has."""
_LISTENS = re.compile(r"listens on (\S+)")

pytestmark = [
    pytest.mark.timeout(900),  # the first one builds everything
    pytest.mark.skipif(
        shutil.which("dotnet") is None and not os.environ.get("REQUIRE_DOTNET"), reason="no .NET SDK is installed"
    ),
]


def _examples(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        example.replace("\r", "") for example in re.findall(r"^```csharp\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


def _extract(project: str, files: dict[str, str]) -> None:
    folder = BUILD / "extracted" / project
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _program(project: str, outputs: Path = BUILD / "bin") -> Path:
    return outputs / project / "Release" / "net10.0" / f"{project}.dll"


def _as_methods(examples: list[str]) -> Iterator[tuple[str, str]]:
    """Each example as the body of a method, or the class that it is, with the namespaces of those before it."""
    usings: list[str] = []
    for number, example in enumerate(examples):
        lines = example.splitlines()
        usings += [line for line in lines if re.match(r"using [\w.]+;$", line) and line not in usings]
        body = "\n".join(line for line in lines if line not in usings)
        method = f"public static async Task Run() {{ await Task.CompletedTask;\n{body}\n}}"
        is_class = body.lstrip().startswith("public sealed class")
        text = body if is_class else f"static class Example{number} {{ {method} }}"
        yield f"Example{number}.cs", "\n".join([*usings, f"{text}\n"])


def _extract_clients() -> None:
    examples = [
        example
        for document in (
            "README.md",
            "docs/kubernetes.md",
            "docs/dotnet.md",
            "docs/lessons.md",
            "docs/demonstrations.md",
            CLIENT_README,
        )
        for example in _examples(document)
    ]
    assert examples
    cart_pole = (ROOT / "samples/dotnet/CartPole/CartPole.cs").read_text(encoding="utf-8")
    _extract("Client", dict(_as_methods(examples)) | {"CartPole.cs": cart_pole})


def _as_main(name: str, examples: list[str], before: str = "") -> str:
    """The examples, one after another, as the main method of a class."""
    lines = "\n".join(examples).splitlines()
    usings = [line for line in lines if re.match(r"using [\w.]+;$", line)]
    body = "\n".join(line for line in lines if line not in usings)
    main = f"public static async Task Main() {{ await Task.CompletedTask; {before}\n{body}\n}}"
    return "\n".join([*usings, f"static class {name} {{ {main} }}\n"])


def _extract_policies() -> None:
    load, follow = _examples("docs/policies.md")
    readme = _examples(POLICY_README)
    assert readme[0] == load
    _extract(
        "Policy",
        {
            "Example0.cs": _as_main("Example0", [load]),
            "Example1.cs": _as_main("Example1", [load, follow]),
            "Example2.cs": _as_main("Example2", readme[:2], before="var pixels = new byte[4];"),
            "Example3.cs": _as_main("Example3", ["using AISandbox;", *readme[2:]]),
        },
    )


def _extract_simulators() -> None:
    environment, program, application, *snippets = _examples("docs/simulators.md")
    assert environment == (ROOT / "samples/dotnet/CartPole/CartPole.cs").read_text(encoding="utf-8")
    assert len(snippets) == 2
    _extract("Simulator", {"Program.cs": program, "CartPole.cs": environment})
    files = dict(_as_methods([application, *snippets]))
    runs = "\n".join(f"await Example{number}.Run();" for number in range(1, len(files)))
    _extract("Snippets", files | {"Program.cs": runs, "CartPole.cs": environment})


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """All C# of the documents and the samples, compiled at once: each build looks at the packages' projects anew."""
    _extract_clients()
    _extract_policies()
    _extract_simulators()
    command = ["dotnet", "build", str(HERE / "Documents.slnx"), "-c:Release", *quiet_flags()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_csharp_of_the_clients_compiles() -> None:
    assert _program("Client").is_file()


@contextmanager
def _running(program: Path, log: Path, *arguments: str) -> Iterator[str]:
    """A simulator in a process of its own; gives its address."""
    command = ["dotnet", str(program), *arguments]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            wait_until(lambda: _LISTENS.search(log.read_text()) or process.poll() is not None, seconds=60, every=0.05)
            found = _LISTENS.search(log.read_text())
            assert found, log.read_text()
            yield found[1]
        finally:
            process.kill()


def _check(address: str, log: Path) -> None:
    results = check_simulator(address, timeout=30)
    assert len(results) > 25
    assert [result for result in results if not result.ok] == [], log.read_text()


@pytest.fixture(scope="module")
def policies() -> Path:
    """The folder of exported policies."""
    folder = BUILD / "policies"
    if not (folder / "made").exists():
        subprocess.run([sys.executable, str(ROOT / "tests/support/dotnet_policies.py"), str(folder)], check=True)
    return folder


def test_csharp_of_the_policies_page_acts(policies: Path, tmp_path: Path) -> None:
    folder = next(
        path.parent for path in policies.glob("*/expected.json") if '"PPO-vector-box"' in path.read_text()[:60]
    )
    shutil.copy(folder / "policy.onnx", tmp_path)

    done = subprocess.run(
        ["dotnet", str(_program("Policy"))], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"action: -?[\d.]+\s*", done.stdout)
    assert done.stderr == ""


def _attempt(address: str, folder: Path, **options: Any) -> TerminationMessage:
    """A run from its dry run on; returns the message with which it ended."""
    spec = TrainingRunSpec(
        algorithm=Algorithm.PPO,
        total_timesteps=64,
        environment=GrpcEnvironment(address, options=options),
        seed=1,
        hyperparameters={"n_steps": "16", "batch_size": "16", "n_epochs": "1", "n_envs": "2"},
    )
    message = folder / "message"
    run_attempt(TrainerStart("run-1", None, spec, folder, folder, termination_message_path=message), Stop(), Settings())
    return TerminationMessage.from_json(message.read_text())


def _train(address: str, folder: Path) -> None:
    """A whole run, from the dry run to the published model."""
    assert _attempt(address, folder).failure is None
    assert RunStore(folder).run("run-1").model("final").timesteps == 64


def test_csharp_simulator_of_the_documents_keeps_the_contract(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with _running(_program("Simulator"), log, "--port", "0") as address:
        _check(address, log)


def test_csharp_snippets_of_the_documents_run(tmp_path: Path) -> None:
    done = subprocess.run(
        ["dotnet", str(_program("Snippets"))], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "500 steps, reward 500" in done.stdout
    recordings = read_recordings(tmp_path / "episode.json")  # the same episode by the contract
    with (
        _running(_program("Simulator"), tmp_path / "log", "--port", "0") as address,
        SimulatorSession.connect(address, 1) as session,
    ):
        (episode,) = replay_episodes(session, recordings)
    assert (episode.seed, episode.steps, episode.rewards.sum(), episode.truncated) == (1, 500, 500, True)


@pytest.fixture(scope="module")
def every_space() -> Path:
    """A program that serves the spaces which its first argument names."""
    return _program("Spaces")


@pytest.mark.parametrize("kind", SPACES)
def test_csharp_simulator_keeps_the_contract_with_every_kind_of_space(
    kind: str, every_space: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with _running(every_space, log, kind, "--port", "0") as address:
        _check(address, log)
        _train(address, tmp_path)


@pytest.fixture(scope="module")
def broken(every_space: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a simulator whose second environment makes a mistake, an option, in its fifth step."""
    with _running(every_space, tmp_path_factory.mktemp("broken") / "log", "broken", "--port", "0") as address:
        yield address


@pytest.mark.parametrize(
    ("mistake", "reason", "what"),
    [
        ("NaN", "SimulatorInvalidReply", r"step 5: the observation, element \[1\] is NaN"),
        ("too little", "SimulatorInvalidReply", "step 5: the observation was not written"),
        # The writer throws at the call, in the environment: as after any exception of Step, the run tries again.
        (
            "too much",
            "SimulatorSessionsTooShort",
            "step 5: Step threw ArgumentException: the observation has 2 elements, 3 were",
        ),
        ("another spec", "SimulatorInvalidReply", "at the reset: Spec changed: it is the same for the whole life"),
    ],
)
def test_mistake_of_a_csharp_environment_is_named_to_its_run_and_stays_its_own(
    mistake: str, reason: str, what: str, broken: str, tmp_path: Path
) -> None:
    with SimulatorSession.connect(broken, 2) as other, grpc.insecure_channel(broken) as channel:
        other.reset()
        failure = _attempt(broken, tmp_path, mistake=mistake).failure
        assert failure is not None
        assert re.search(rf"environment 1 of 2, seed \d+, {what}", failure.message), failure.message
        assert failure.reason == reason
        assert other.step(np.zeros(2, np.int64)).rewards.tolist() == [1, 1]
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert health.status == health_pb2.HealthCheckResponse.SERVING


def _step_for_ever(session: SimulatorSession) -> None:
    while True:
        session.step(np.full((2, 2), 0.5, np.float32))


def test_csharp_simulator_ends_its_sessions_at_sigterm(every_space: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = ["dotnet", str(every_space), "box", "--port", "0"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            wait_until(lambda: _LISTENS.search(log.read_text()), seconds=60, every=0.05)
            address = _LISTENS.findall(log.read_text())[0]
            with SimulatorSession.connect(address, 2) as session:
                session.reset()
                process.terminate()
                with pytest.raises(SimulatorLost):  # what a trainer waits for to come back
                    _step_for_ever(session)
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_csharp_sample_with_continuous_actions_keeps_the_contract_and_trains(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with _running(_program("Rover", BUILD / "bin/samples"), log, "serve", "--port", "0") as address:
        _check(address, log)
        _train(address, tmp_path)


def test_csharp_sample_tells_that_it_did_not_learn() -> None:
    """All of it, the service and a training included, too short to learn."""
    demo = [sys.executable, str(ROOT / "scripts/demo_dotnet.py"), "512"]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=380)
    played = re.search(r"seed 1: reward (\S+) in this process, (\S+) by the service", done.stdout)
    assert played, done.stdout + done.stderr
    assert played[1] == played[2]
    assert "mean reward of the policy in 20 episodes" in done.stdout
    assert done.returncode == 1, done.stdout + done.stderr

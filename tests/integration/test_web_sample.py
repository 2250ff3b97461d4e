"""The page in samples/web: its messages against the generated code of Python, and all of it in a browser."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from aisandbox.v1 import environment_pb2 as environment
from aisandbox.v1 import policy_trainer_pb2 as trainer
from aisandbox.v1 import policy_trainer_pb2_grpc as trainer_grpc
from aisandbox.v1 import simulator_pool_pb2 as pool
from aisandbox.v1 import tensor_pb2 as tensor
from aisandbox_cli.processes import Children
from aisandbox_environment import check_simulator
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from headless_browser import Page, started_browser
from members import ROOT
from waiting import wait_until

SAMPLE = ROOT / "samples" / "web"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _tensor(shape: list[int]) -> tensor.Tensor:
    return tensor.Tensor(dtype=tensor.DATA_TYPE_INT64, shape=shape, data=bytes(range(256)))


def _options() -> Struct:
    options = Struct()
    options.update({"gravity": 9.8, "zero": 0, "name": "Zürich", "no": False})
    return options


SPEC = environment.EnvironmentSpec(
    observation_space=tensor.Space(
        dict=tensor.DictSpace(
            entries=[
                tensor.DictEntry(
                    key="box",
                    space=tensor.Space(box=tensor.Box(dtype=tensor.DATA_TYPE_UINT8, shape=[64, 300], low=[-1.5, 0.0])),
                ),
                tensor.DictEntry(key="bits", space=tensor.Space(multi_binary=tensor.MultiBinary(n=8, names=["a"]))),
            ]
        )
    ),
    action_space=tensor.Space(discrete=tensor.Discrete(n=3, start=-(2**40), names=["a", "b", "ü"])),
    action_masks=True,
    max_episode_steps=2**40,
    metrics=["goals"],
    seconds_per_step=0.02,
)
REPLY = environment.StepReply(
    observations=[_tensor([2, 16]), _tensor([])],
    rewards=b"\0\0\x80\x3f",
    terminated=b"\1\0",
    truncated=b"\0\0",
    final_observations=[_tensor([1, 32])],
    action_masks=b"\1\0\1",
    episode_metrics=[environment.EpisodeMetrics(environment=3, values={"goals": -2.5, "none": 0.0})],
)
MESSAGES: list[Message] = [
    pool.AttachRequest(
        register=pool.RegisterSimulator(
            pool="p", instance="i", protocol_version=1, environments=4096, spec=SPEC, name="n", version="v"
        )
    ),
    pool.AttachRequest(reply=environment.SimulatorReply(open=environment.OpenReply(spec=SPEC))),
    pool.AttachRequest(reply=environment.SimulatorReply(reset=environment.ResetReply(observations=[_tensor([2, 16])]))),
    pool.AttachRequest(reply=environment.SimulatorReply(step=REPLY)),
    pool.AttachRequest(reply=environment.SimulatorReply(error=environment.SimulatorError(code=2, message="no"))),  # type: ignore[arg-type]
    pool.AttachRequest(session_ended=pool.SessionEnded()),
    pool.AttachResponse(registered=pool.SimulatorRegistered(service_version="1.2.3")),
    pool.AttachResponse(
        request=environment.SimulatorRequest(
            open=environment.OpenRequest(
                protocol_version=1, environments=2**32 - 1, options=_options(), run_id="r", evaluation=True
            )
        )
    ),
    pool.AttachResponse(
        request=environment.SimulatorRequest(reset=environment.ResetRequest(seeds=[0, 1, 2**63, 2**64 - 1]))
    ),
    pool.AttachResponse(request=environment.SimulatorRequest(step=environment.StepRequest(actions=_tensor([32])))),
    pool.AttachResponse(session_ended=pool.SessionEnded(code=13, message="the world has failed")),
]
# A field of a newer version of the contract, of each wire type: varint, 64 bits, bytes, 32 bits.
UNKNOWN = b"\xf8\x3f\x01" + b"\xf9\x3f12345678" + b"\xfa\x3f\x03abc" + b"\xfd\x3f1234"
PROGRAM = """
import {decode, encode} from './messages.js';
let text = '';
for await (const chunk of process.stdin) text += chunk;
console.log(JSON.stringify(JSON.parse(text).map(([type, data]) => {
  try {
    return Buffer.from(encode(type, decode(type, new Uint8Array(Buffer.from(data, 'base64'))))).toString('base64');
  } catch (error) {
    return error.message;
  }
})));
"""


def _through_the_page(messages: list[tuple[str, bytes]]) -> list[str]:
    """Each message decoded and encoded again by the page's code, in base64; or what the error says."""
    given = json.dumps([(name, base64.b64encode(data).decode()) for name, data in messages])
    command = ["node", "--input-type=module", "--eval", PROGRAM]
    done = subprocess.run(command, cwd=SAMPLE, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [str(each) for each in json.loads(done.stdout)]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js, to run the page's code")
def test_page_reads_and_writes_the_messages_of_the_contract() -> None:
    given = [(type(message).__name__, message.SerializeToString() + UNKNOWN) for message in MESSAGES]
    results = _through_the_page(given)
    for message, result in zip(MESSAGES, results, strict=True):
        assert type(message).FromString(base64.b64decode(result)) == message


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js, to run the page's code")
def test_page_refuses_what_is_no_message() -> None:
    cut = MESSAGES[7].SerializeToString()[:-1]
    endless = b"\xff" * 11
    results = _through_the_page([("AttachResponse", cut), ("AttachResponse", endless), ("AttachResponse", b"\x0b")])
    assert results == ["the message is cut", "a varint of more than ten bytes", "wire type 3"]


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


@pytest.fixture(scope="module")
def page_server() -> Iterator[str]:
    """The address of a web server that knows nothing but the folder of the page."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(SAMPLE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The gRPC address of `aisandbox up`, and the address of its HTTP port."""
    folder = tmp_path_factory.mktemp("service")
    with Children(folder) as children:
        up = children.start("up", "--port", "0", "--models-dir", str(folder / "models"), environ={"HTTP_PORT": "0"})
        ready = up.wait_until_ready()
        yield str(ready["address"]), f"http://127.0.0.1:{ready['httpPort']}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """An empty page."""
    with started_browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def page(browser: Page, service: tuple[str, str], page_server: str) -> Page:
    """The page, loaded anew and attached to the pool "browser"."""
    browser.open(f"{page_server}/index.html?service={service[1]}&pool=browser&environments=4&attach")
    browser.wait_for("document.querySelector('#status').value.startsWith('attached to pool browser')")
    return browser


def _is_drawn(canvas: str) -> str:
    pixels = "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(Boolean)"
    return f"(() => {{ const c = document.querySelector('#{canvas}'); return {pixels}; }})()"


def test_page_is_drawn_while_it_is_trained_and_then_driven_by_the_policy(service: tuple[str, str], page: Page) -> None:
    timesteps = 1024
    request = trainer.TrainingRequest(
        experiment_id="page",
        total_timesteps=timesteps,
        hyperparameters={"n_steps": "64", "n_epochs": "1"},
        environment=trainer.Environment(pool=trainer.PoolEnvironment(name="browser", environments=4)),
    )
    with grpc.insecure_channel(service[0]) as channel:
        stub = trainer_grpc.PolicyTrainerServiceStub(channel)
        run_id = stub.StartTrainingPPO(request, timeout=60).run_id
        page.wait_for(_is_drawn("worlds"), seconds=120)
        page.wait_for(_is_drawn("episodes"))
        status = wait_until(
            lambda: stub.GetTrainingStatus(trainer.StatusRequest(run_id=run_id), timeout=60),
            lambda status: status.phase in (trainer.PHASE_SUCCEEDED, trainer.PHASE_FAILED),
            seconds=240,
        )
    assert status.phase == trainer.PHASE_SUCCEEDED, status
    shown = page.wait_for("document.querySelector('#progress').value")
    assert int(shown.split()[0].replace(",", "")) >= timesteps
    assert page.evaluate("document.forms.drive.run.value") == run_id

    page.evaluate("document.forms.drive.requestSubmit()")
    page.wait_for("document.querySelector('#driven').value.startsWith('the episode ended')", seconds=120)
    assert page.evaluate(_is_drawn("world"))
    assert page.errors == []


def test_page_follows_the_rules_of_simulators(service: tuple[str, str], page: Page) -> None:
    results = check_simulator(service[0], pool="browser", timeout=60)
    assert len(results) > 25
    assert [result for result in results if not result.ok] == []
    assert page.errors == []


def test_page_says_why_it_cannot_drive(page: Page) -> None:
    page.evaluate("document.forms.drive.run.value = 'no-such-run'; document.forms.drive.requestSubmit()")
    said = page.wait_for("/^cannot drive: .*/.exec(document.querySelector('#driven').value)?.[0]")
    assert "no-such-run" in said
    assert page.evaluate("document.querySelector('#play').textContent") == "Drive"


def test_page_attaches_again_after_it_has_left(page: Page) -> None:
    page.evaluate("document.forms.train.requestSubmit()")
    page.wait_for("document.querySelector('#status').value === 'not attached'")
    page.evaluate("document.forms.train.requestSubmit()")
    page.wait_for("document.querySelector('#status').value.startsWith('attached to pool browser')")
    assert page.errors == []


def test_page_says_why_the_service_refuses_it(page: Page) -> None:
    page.evaluate("document.forms.train.requestSubmit()")
    page.wait_for("document.querySelector('#status').value === 'not attached'")
    page.evaluate("document.forms.train.pool.value = 'x'.repeat(64); document.forms.train.requestSubmit()")
    said = page.wait_for(
        "document.querySelector('#status').value.startsWith('refused: ') && document.querySelector('#status').value"
    )
    assert "pool" in said
    assert page.evaluate("document.querySelector('#attach').textContent") == "Attach"

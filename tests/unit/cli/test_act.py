"""`aisandbox act` and `aisandbox model`."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_cli.commands.act import numbers
from aisandbox_cli.errors import UsageError
from aisandbox_cli.main import main


def test_act_accepts_negative_numbers(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.says("Act", pb.ActResponse(action=[1, -0.1], model="sha256:ab", model_timesteps=20))
    assert main(["act", "exp-1", "-0.5", "1e-3", "-2", "--model", "best", "--stochastic"]) == 0
    request = service.requests("Act")[0]
    assert list(request.observation) == pytest.approx([-0.5, 0.001, -2.0])
    assert (request.run_id, request.model, request.stochastic) == ("exp-1", "best", True)
    assert capsys.readouterr().out == "1 -0.1\n"


def test_act_with_json_names_the_model(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.says("Act", pb.ActResponse(action=[1], model="sha256:ab", model_timesteps=20))
    assert main(["act", "exp-1", "[[1, 2], [3, 4]]", "--json"]) == 0
    assert list(service.requests("Act")[0].observation) == [1, 2, 3, 4]
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"action": [1.0], "model": "sha256:ab", "modelTimesteps": "20", "state": ""}
    assert service.requests("Act")[0].episode_start


def test_act_takes_the_state_of_the_answer_before(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.says("Act", pb.ActResponse(action=[1], state=b"\1\2"))
    assert main(["act", "exp-1", "1", "--state", "AQI="]) == 0
    request = service.requests("Act")[0]
    assert (request.state, request.episode_start) == (b"\1\2", False)
    assert main(["act", "exp-1", "1", "--state", "?"]) == 2
    assert main(["act", "exp-1", "--state", "AQI="]) == 2
    assert "--state: is not base64" in capsys.readouterr().err


def test_act_lets_the_service_refuse_nan(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.says("Act", service.refusal(grpc.StatusCode.INVALID_ARGUMENT, "observation", observation="must be finite"))
    assert main(["act", "exp-1", "nan", "-inf"]) == 2
    assert "observation: must be finite" in capsys.readouterr().err


def test_act_before_a_model_exists_prints_the_reason(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.says("Act", service.refusal(grpc.StatusCode.FAILED_PRECONDITION, "run 'exp-1' has published no model yet"))
    assert main(["act", "exp-1", "1"]) == 1
    error = capsys.readouterr().err
    assert "has published no model yet (FAILED_PRECONDITION)" in error
    assert "aisandbox status exp-1` shows whether the run still trains" in error


def test_act_answers_every_line_of_stdin_in_order(
    service: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("1 2\n\n[3, 4]\nfive\n6,7\n"))
    service.says(
        "ActStream",
        pb.ActStreamResponse(response=pb.ActResponse(action=[0])),
        pb.ActStreamResponse(error=pb.ActStreamError(code=3, message="observation: must be finite")),
        pb.ActStreamResponse(response=pb.ActResponse(action=[1])),
    )
    assert main(["act", "exp-1", "--model", "final"]) == 1
    captured = capsys.readouterr()
    assert captured.out.split("\n") == ["0", "", "", "1", ""]
    assert "line 3: observation: must be finite (INVALID_ARGUMENT)" in captured.err
    assert "line 4: 'five' is not a number" in captured.err
    requests = [message.request for message in service.requests("ActStream")]
    assert [list(request.observation) for request in requests] == [[1, 2], [3, 4], [6, 7]]
    assert [(request.run_id, request.model) for request in requests] == [("exp-1", "final"), ("", ""), ("", "")]
    # An empty line begins an episode, with the next observation that is not refused.
    assert [request.episode_start for request in requests] == [True, True, True]


def test_act_sends_the_run_after_an_invalid_first_line(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("oops\n1\n"))
    service.says("ActStream", pb.ActStreamResponse(response=pb.ActResponse(action=[0])))
    assert main(["act", "exp-1"]) == 1
    assert [message.request.run_id for message in service.requests("ActStream")] == ["exp-1"]


@pytest.mark.parametrize("text", ["[1, true]", '["1"]', "[1", "0x10", "1 2 x"])
def test_numbers_refuses_other_text(text: str) -> None:
    with pytest.raises(UsageError, match="observation: "):
        numbers([text], "observation")


def _parts(data: bytes, announced: bytes) -> list[pb.GetModelResponse]:
    digest = f"sha256:{hashlib.sha256(announced).hexdigest()}"
    description = pb.DescribeModelResponse(run_id="exp-1", model="sha256:ab", algorithm=pb.ALGORITHM_PPO)
    head = pb.GetModelResponse(description=description, size=len(announced), file_digest=digest, part=data[:3])
    return [head, pb.GetModelResponse(part=data[3:])]


def test_model_writes_the_downloaded_file(service: Any, tmp_path: Path) -> None:
    service.says("GetModel", _parts(b"onnx file", b"onnx file"))
    assert main(["model", "exp-1", "--model", "best", "-o", str(tmp_path / "p.onnx")]) == 0
    assert (tmp_path / "p.onnx").read_bytes() == b"onnx file"
    assert service.requests("GetModel")[0].model == "best"
    assert [path.name for path in tmp_path.iterdir()] == ["p.onnx"]


def test_model_keeps_the_old_file_when_the_download_is_damaged(
    service: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.onnx").write_bytes(b"old")
    service.says("GetModel", _parts(b"onnx fil_", b"onnx file"))
    assert main(["model", "exp-1", "-o", str(tmp_path / "p.onnx")]) == 1
    assert "download is damaged" in capsys.readouterr().err
    assert (tmp_path / "p.onnx").read_bytes() == b"old"


def test_model_reports_that_it_cannot_write(service: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service.says("GetModel", _parts(b"onnx file", b"onnx file"))
    assert main(["model", "exp-1", "-o", str(tmp_path / "missing" / "p.onnx")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_model_describes_the_spaces(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    description = pb.DescribeModelResponse(run_id="exp-1", model="sha256:ab", frame_stack=4, model_timesteps=20_000)
    description.observation_space.box.shape.extend([4])
    description.observation_space.box.dtype = 1  # type: ignore[assignment]
    description.action_space.discrete.n = 2
    service.says("DescribeModel", description)
    assert main(["model", "exp-1"]) == 0
    out = capsys.readouterr().out
    assert "Box float32 [4]" in out
    assert "Discrete 2" in out
    assert "20,000" in out

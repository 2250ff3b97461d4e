"""Which service is called and how, stored logins, and what is said when TLS or the token is not right."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc
from aisandbox_cli import contexts
from aisandbox_cli.errors import UsageError
from aisandbox_cli.main import main
from aisandbox_cli.service_address import service_address
from aisandbox_process.grpc_tls import add_port
from aisandbox_process.tls import ServerCertificate, ServerFiles
from certificates import Certificates


class Guarded(rpc.PolicyTrainerServiceServicer):
    """Knows one token."""

    def __init__(self, token: str) -> None:
        self.token = token

    def ListTrainingRuns(self, request: Any, context: grpc.ServicerContext) -> pb.ListTrainingRunsResponse:
        found = dict(context.invocation_metadata() or ())
        if found.get("authorization") != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not known")
        return pb.ListTrainingRunsResponse()


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "made")


@pytest.fixture
def guarded(made: Certificates) -> Iterator[str]:
    """The address of a service with TLS that asks for the token "secret"."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    service: Any = Guarded("secret")  # type: ignore[abstract]  # one call is enough
    rpc.add_PolicyTrainerServiceServicer_to_server(service, server)
    certificate = ServerCertificate(ServerFiles(made.certificate, made.key))
    port = add_port(server, "127.0.0.1:0", certificate)
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token.txt"
    path.write_text("secret\n")
    return path


@pytest.fixture
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AISANDBOX_ADDRESS")


def test_options_and_variables_lead_to_a_service_with_tls(
    guarded: str, made: Certificates, token: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--address", guarded, "--tls-ca", str(made.ca), "--token-file", str(token)]
    assert main(["runs", *options, "--json"]) == 0
    assert main(["runs", *options]) == 0
    monkeypatch.setenv("AISANDBOX_ADDRESS", f"https://{guarded}")
    monkeypatch.setenv("AISANDBOX_TLS_CA", str(made.ca))
    monkeypatch.setenv("AISANDBOX_TOKEN_FILE", str(token))
    assert main(["runs"]) == 0
    assert "No runs found" in capsys.readouterr().err


def test_hints_repeat_what_was_typed(made: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def connect(address: str | None, **_: Any) -> Any:
        seen.append(service_address(address).command("runs"))
        raise UsageError("enough")

    monkeypatch.setattr("aisandbox_cli.commands.runs.connect", connect)
    main(["runs", "--address", "https://a.example:1", "--tls-ca", "my ca.crt"])
    monkeypatch.setenv("AISANDBOX_TLS_CA", "my ca.crt")
    main(["runs"])
    assert seen[0].endswith(" runs --address https://a.example:1 --tls-ca 'my ca.crt'")
    assert seen[1].endswith(" runs")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "uses TLS"),
        (["--tls-ca", "{other}"], "its certificate is signed by an authority that is not in"),
        (["--tls-ca", "{ca}", "--tls-server-name", "a.example"], "its certificate is for another name than a.example"),
        (["--tls-ca", "{ca}"], "requires authentication: the token is not known"),
        (["--tls-ca", "/none"], "the CA file /none cannot be read"),
        (["--tls-ca", "{ca}", "--token-file", "/none"], "the token file /none cannot be read"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    guarded: str,
    made: Certificates,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    says: str,
) -> None:
    other = Certificates(tmp_path / "other")
    filled = [option.format(ca=made.ca, other=other.ca) for option in options]
    assert main(["runs", "--address", guarded, *filled]) in (1, 2)
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) <= 2


def test_tls_at_a_service_without_it_is_told(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--address", f"https://{service.address}"]) == 1
    assert "does not use TLS" in capsys.readouterr().err


def test_token_is_not_sent_in_plain_text(token: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--address", "a.example:1", "--token-file", str(token)]) == 2
    assert "a token is not sent to a.example:1 in plain text" in capsys.readouterr().err


@pytest.mark.usefixtures("no_address")
def test_login_is_used_by_other_commands_and_forgotten(
    guarded: str, made: Certificates, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["login", guarded, "--tls-ca", str(made.ca), "--token-file", str(token)]) == 0
    stored = contexts.current_context()
    assert stored is not None
    assert stored.ca_file is not None
    assert stored.token_file is not None
    if os.name == "posix":
        files = [each for each in stored.token_file.parents[2].rglob("*") if each.is_file()]
        assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
        assert stat.S_IMODE(stored.token_file.parent.stat().st_mode) == 0o700
    made.ca.unlink()
    token.unlink()
    assert main(["runs"]) == 0
    assert main(["logout"]) == 0
    assert not stored.token_file.exists()
    assert main(["logout"]) == 1
    assert "no login to forget" in capsys.readouterr().err


@pytest.mark.usefixtures("no_address")
def test_login_that_the_service_refuses_is_not_stored(
    guarded: str, made: Certificates, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("wrong\n"))
    assert main(["login", guarded, "--tls-ca", str(made.ca), "--token-file", "-"]) == 1
    assert "requires authentication" in capsys.readouterr().err
    assert contexts.current_context() is None


@pytest.mark.usefixtures("no_address")
def test_login_says_as_whom_where_the_service_does(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.says("WhoAmI", pb.WhoAmIResponse(authentication_enabled=True, name="al\x1bice"))
    assert main(["login", f"http://{service.address}", "--no-token"]) == 0
    assert rf"Logged in to {service.address} as al\x1bice; this login" in capsys.readouterr().err


def test_whoami_shows_the_caller(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answer = pb.WhoAmIResponse(
        authentication_enabled=True, name="bob", roles=["simulator"], rights=["simulate"], pools=["arena", "plant-*"]
    )
    for options in ([], ["--json"]):
        service.says("WhoAmI", answer)
        assert main(["whoami", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines[:4]] == [
        ["name", "bob"],
        ["roles", "simulator"],
        ["may", "simulate"],
        ["pools", "arena, plant-*"],
    ]
    assert json.loads(lines[4]) == {
        "authenticationEnabled": True,
        "name": "bob",
        "roles": ["simulator"],
        "rights": ["simulate"],
        "pools": ["arena", "plant-*"],
    }


@pytest.mark.usefixtures("no_address")
def test_what_was_stored_goes_to_its_service_only(tmp_path: Path) -> None:
    contexts.store("default", "a.example:1", tls=True, ca=b"ca", token="secret")
    contexts.store("other", "b.example:1", tls=True, server_name="b", token="other")
    assert service_address(None).target == "b.example:1"
    found = service_address("https://b.example:1").security
    assert (found.tls, found.server_name, found.ca_file) == (True, "b", None)
    assert found.token_file is not None
    for elsewhere in ("c.example:1", "b.example:2", "http://b.example:1", "a.example:1"):
        assert not service_address(elsewhere).security.has_token
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISANDBOX_CONTEXT", "default")
        assert service_address(None).target == "a.example:1"
        patch.setenv("AISANDBOX_CONTEXT", "none")
        with pytest.raises(UsageError, match="there is no such login"):
            service_address(None)
        patch.setenv("AISANDBOX_CONTEXT", "../other")
        with pytest.raises(UsageError, match="must be at most 63"):
            service_address(None)


def test_hint_how_to_attach_has_what_reaches_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aisandbox_environment.list_simulators", lambda *_arguments, **_named: [])
    ca = tmp_path / "ca.crt"
    assert main(["simulators", "--address", "https://service.example:1", "--tls-ca", str(ca), "--pool", "arena"]) == 0
    hint = f"host-gymnasium CartPole-v1 --attach https://service.example:1 --pool arena --tls-ca {ca}`"
    assert hint in capsys.readouterr().err

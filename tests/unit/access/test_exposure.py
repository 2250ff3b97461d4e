"""Where a server may listen without authentication or TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aisandbox_access import AccessSettings, check_exposure
from aisandbox_api import Settings, create_server
from aisandbox_process import InvalidSetting
from aisandbox_process.tls import ServerFiles
from structlog.testing import capture_logs

TLS = ServerFiles(Path("tls.crt"), Path("tls.key"))
WITH_CLIENTS = ServerFiles(Path("tls.crt"), Path("tls.key"), Path("ca.crt"))


def check(host: str, *, authenticates: bool = False, tls: ServerFiles | None = None, insecure: bool = False) -> None:
    check_exposure(host, authenticates=authenticates, tls=tls, insecure=insecure, variable="GRPC_HOST")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"])
def test_loopback_needs_nothing(host: str) -> None:
    with capture_logs() as logs:
        check(host)
    assert logs == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "trainer.example.com"])
def test_other_addresses_need_authentication_and_tls(host: str) -> None:
    check(host, authenticates=True, tls=TLS)
    check(host, tls=WITH_CLIENTS)
    with pytest.raises(InvalidSetting, match=r"GRPC_HOST: .*AUTH is off.*no TLS_CERT_FILE.*INSECURE=true"):
        check(host)
    with pytest.raises(InvalidSetting, match=r"and nothing is encrypted \(no TLS_CERT_FILE\): set"):
        check(host, authenticates=True)
    with pytest.raises(InvalidSetting, match=r"and callers are not authenticated \(AUTH is off\): set"):
        check(host, tls=TLS)


def test_insecure_is_allowed_and_said_aloud() -> None:
    with capture_logs() as logs:
        check("0.0.0.0", insecure=True)
    assert [(line["log_level"], line["listens_on"]) for line in logs] == [("warning", "0.0.0.0")]
    assert logs[0]["event"].startswith("INSECURE: callers are not authenticated")


@pytest.mark.parametrize(
    ("settings", "variable"),
    [(Settings(grpc_host="0.0.0.0"), "GRPC_HOST"), (Settings(trainer_address="0.0.0.0:0"), "TRAINER_ADDRESS")],
)
def test_service_refuses_to_be_created(settings: Settings, variable: str) -> None:
    with pytest.raises(InvalidSetting, match=variable):
        create_server(settings)


def with_tokens(*, insecure: bool = False, service_token: bool = True, **fields: Any) -> Settings:
    access = AccessSettings(
        auth="token",
        token_file=Path("tokens"),
        insecure=insecure,
        service_token_file=Path("token") if service_token else None,
    )
    return Settings(access=access, **fields)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (with_tokens(inference_address="policies:50061"), "TLS_CA_FILE: .*INFERENCE_ADDRESS 'policies:50061'"),
        (with_tokens(inference_address="policies:50061", service_token=False), "TLS_CA_FILE"),
        (with_tokens(inference_address="dns:///10.0.0.1:50061"), "TLS_CA_FILE"),
        (with_tokens(replicas_address="127.0.0.1:1,10.0.0.1:50051"), "TLS_CA_FILE: .*REPLICAS_ADDRESS"),
        (
            Settings(access=AccessSettings(service_token_file=Path("token")), replicas_address="kubernetes:///a:b"),
            "TLS_CA_FILE",
        ),
        (with_tokens(replicas_address="127.0.0.1:1", service_token=False), "SERVICE_TOKEN_FILE: must be set where"),
    ],
)
def test_tokens_are_not_sent_to_other_machines_in_plain_text(settings: Settings, rule: str) -> None:
    with pytest.raises(InvalidSetting, match=rule):
        create_server(settings)


def test_tokens_are_sent_to_this_machine_or_where_that_is_allowed(tmp_path: Path) -> None:
    create_server(with_tokens(inference_address="dns:///localhost:1", replicas_address="[::1]:1", models_dir=tmp_path))
    create_server(with_tokens(inference_address="policies:50061", insecure=True, models_dir=tmp_path))
    create_server(Settings(inference_address="policies:50061", models_dir=tmp_path))

"""Where a server may listen without a lock on the door."""

from __future__ import annotations

from pathlib import Path

import pytest
from aisandbox_access import check_exposure
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
    with pytest.raises(InvalidSetting, match=r"and callers are not asked who they are \(AUTH is off\): set"):
        check(host, tls=TLS)


def test_insecure_is_allowed_and_said_aloud() -> None:
    with capture_logs() as logs:
        check("0.0.0.0", insecure=True)
    assert [(line["log_level"], line["listens_on"]) for line in logs] == [("warning", "0.0.0.0")]
    assert logs[0]["event"].startswith("INSECURE: callers are not asked who they are")


@pytest.mark.parametrize(
    ("settings", "variable"),
    [(Settings(grpc_host="0.0.0.0"), "GRPC_HOST"), (Settings(trainer_address="0.0.0.0:0"), "TRAINER_ADDRESS")],
)
def test_service_refuses_to_be_created(settings: Settings, variable: str) -> None:
    with pytest.raises(InvalidSetting, match=variable):
        create_server(settings)

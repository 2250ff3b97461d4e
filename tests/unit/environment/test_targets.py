from __future__ import annotations

import socket

import pytest
from aisandbox_environment.calls import error_from_status, no_answer
from aisandbox_environment.errors import InvalidAddress, SimulatorUnreachable
from aisandbox_environment.targets import simulator_networks, target_of
from aisandbox_process import GRPC_SCHEMES, InvalidHostPort, InvalidSetting, split_host_port
from grpc import StatusCode


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The records of every name."""
    found: list[str] = []

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if not found:
            raise socket.gaierror("no such name")
        return [(None, None, None, "", (record, port)) for record in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return found


def test_target_is_a_host_and_a_port_whatever_the_host_is_called() -> None:
    assert target_of("sim-0.sims:50061") == "dns:///sim-0.sims:50061"
    assert target_of("[::1]:50061") == "dns:///[::1]:50061"


@pytest.mark.parametrize("scheme", [*GRPC_SCHEMES, "UNIX"])
def test_host_that_grpc_takes_for_a_scheme_is_refused(scheme: str) -> None:
    with pytest.raises(InvalidHostPort, match="scheme"):
        split_host_port(f"{scheme}:50061")


def test_addresses_that_were_checked_are_dialled(monkeypatch: pytest.MonkeyPatch, records: list[str]) -> None:
    monkeypatch.setenv("SIMULATOR_NETWORKS", "10.0.0.0/8, fd00::/8")
    records[:] = ["10.2.0.1", "10.1.0.1", "10.2.0.1", "fd00::1"]
    assert target_of("sims:50061") == "ipv4:10.1.0.1:50061,10.2.0.1:50061"
    records[:] = ["fd00::1"]
    assert target_of("sims:50061") == "ipv6:[fd00::1]:50061"


@pytest.mark.parametrize("record", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "fe80::1%eth0"])
def test_name_that_leads_elsewhere_too_is_not_dialled(
    monkeypatch: pytest.MonkeyPatch, records: list[str], record: str
) -> None:
    monkeypatch.setenv("SIMULATOR_NETWORKS", "10.0.0.0/8")
    records[:] = ["10.1.0.1", record]
    with pytest.raises(InvalidAddress, match="SIMULATOR_NETWORKS"):
        target_of("sims:50061")


def test_name_without_records_may_have_some_later(monkeypatch: pytest.MonkeyPatch, records: list[str]) -> None:
    monkeypatch.setenv("SIMULATOR_NETWORKS", "10.0.0.0/8")
    with pytest.raises(SimulatorUnreachable):
        target_of("sims:50061")


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/8", "sims", "10.0.0.0/8,,"])
def test_text_that_is_no_list_of_networks_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="SIMULATOR_NETWORKS"):
        simulator_networks({"SIMULATOR_NETWORKS": text})


def test_error_without_diagnostics_is_the_same_whatever_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMULATOR_DIAGNOSTICS", "off")
    with socket.create_server(("127.0.0.1", 0)) as listener:  # an open port that says nothing
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        found = {
            str(no_answer(address, "did not answer within 1 s")),
            str(error_from_status(address, StatusCode.UNAVAILABLE, "Connection refused", opened=False)),
            str(error_from_status(address, StatusCode.UNAVAILABLE, "an http1.x server", opened=False)),
            str(error_from_status(address, StatusCode.DEADLINE_EXCEEDED, "", opened=False)),
        }
    assert found == {f"simulator {address}: cannot be reached, or is not a simulator"}

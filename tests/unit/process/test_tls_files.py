import ssl
from pathlib import Path

import pytest
import structlog
import trustme
from aisandbox_process import InvalidSetting, is_loopback
from aisandbox_process.tls import (
    ChannelSecurity,
    InvalidChannelSecurity,
    ServerCertificate,
    ServerFiles,
    connection_problem,
    server_files,
    split_scheme,
)
from certificates import Certificates


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "made")


def _load(made: Certificates) -> ServerCertificate:
    return ServerCertificate(ServerFiles(made.certificate, made.key))


def test_settings_without_files_mean_no_tls() -> None:
    assert server_files({"TLS_CERT_FILE": ""}) is None


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"TLS_CERT_FILE": "c"}, "TLS_KEY_FILE: must be set where TLS_CERT_FILE is"),
        ({"TLS_KEY_FILE": "k"}, "TLS_CERT_FILE: must be set where TLS_KEY_FILE is"),
        ({"TLS_CLIENT_CA_FILE": "a"}, "TLS_CLIENT_CA_FILE: has no effect without"),
    ],
)
def test_settings_that_are_half_are_refused(environ: dict[str, str], names: str) -> None:
    with pytest.raises(InvalidSetting, match=names):
        server_files(environ)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda made: made.certificate.unlink(), "TLS_CERT_FILE: .*tls.crt cannot be read: No such file"),
        (lambda made: made.certificate.write_bytes(b"hello"), "TLS_CERT_FILE: .* has no certificate in PEM form"),
        (
            lambda made: made.certificate.write_bytes(made.certificate.read_bytes()[:300]),
            "TLS_CERT_FILE: .* cannot be read; is it complete",
        ),
        (lambda made: made.key.write_bytes(b""), "TLS_KEY_FILE: .* has no private key in PEM form"),
        (
            lambda made: made.key.write_bytes(made.key.read_bytes()[:-60]),
            "TLS_KEY_FILE: .* must be complete and without a password",
        ),
        (
            lambda made: made.key.write_bytes(trustme.CA().issue_cert("x").private_key_pem.bytes()),
            "TLS_KEY_FILE: .* is not the key of the certificate in .*tls.crt",
        ),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_setting_and_rule(
    made: Certificates, break_it: object, says: str
) -> None:
    break_it(made)  # type: ignore[operator]
    with pytest.raises(InvalidSetting, match=says):
        _load(made)


def test_replaced_files_are_used_and_broken_ones_are_not(made: Certificates) -> None:
    server = _load(made)
    first = server.current()
    assert server.current() is first
    made.write()
    second = server.current()
    assert second is not first
    assert second.pair.certificate == made.certificate.read_bytes()

    with structlog.testing.capture_logs() as logs:
        made.key.write_bytes(b"half")
        assert server.current() is second
        assert server.current() is second
    assert [entry["setting"] for entry in logs if entry["log_level"] == "warning"] == ["TLS_KEY_FILE"]
    made.key.unlink()
    assert server.current() is second
    made.write()
    assert server.current().pair.key == made.key.read_bytes()


def test_key_that_vanishes_while_it_is_read_leaves_the_former_one(
    made: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = _load(made)
    first = server.current()

    class Context(ssl.SSLContext):
        def load_cert_chain(self, *_args: object, **_named: object) -> None:
            raise FileNotFoundError(2, "No such file or directory")

    made.write()
    channel = ChannelSecurity(tls=True, ca_file=made.ca, certificate_file=made.certificate, key_file=made.key)
    with monkeypatch.context() as patch:
        patch.setattr(ssl, "SSLContext", Context)
        assert server.current() is first
        with pytest.raises(InvalidChannelSecurity, match=r"tls.key is being replaced"):
            channel.key_pair()


def test_expired_certificate_is_served_with_a_warning(made: Certificates) -> None:
    made.write(expired=True)
    with structlog.testing.capture_logs() as logs:
        _load(made)
    assert [entry["problem"] for entry in logs if entry["log_level"] == "warning"] == ["certificate has expired"]


def test_validity_is_logged(made: Certificates) -> None:
    with structlog.testing.capture_logs() as logs:
        _load(made)
    (entry,) = logs
    assert entry["event"] == "certificate loaded"
    assert entry["valid_until"].startswith("20")


def test_client_authorities_are_required_of_clients(made: Certificates, tmp_path: Path) -> None:
    files = ServerFiles(made.certificate, made.key, made.ca)
    assert ServerCertificate(files).current().context.verify_mode is ssl.CERT_REQUIRED
    made.ca.write_bytes(b"nothing")
    with pytest.raises(InvalidSetting, match=r"TLS_CLIENT_CA_FILE: .* has no certificate"):
        ServerCertificate(files)


def test_token_is_not_sent_to_other_machines_in_plain_text(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    plain = ChannelSecurity(token_file=token)
    assert plain.metadata("127.0.0.1:50051") == (("authorization", "Bearer secret"),)
    assert plain.metadata("dns:///localhost:50051")
    for address in ("10.0.0.1:50051", "service:50051", "dns:///service:50051", "127.0.0.1.example.com:1"):
        with pytest.raises(InvalidChannelSecurity, match=f"a token is not sent to {address} in plain text"):
            plain.metadata(address)
    token.write_text("renewed")
    assert ChannelSecurity(tls=True, token_file=token).metadata("service:1") == (("authorization", "Bearer renewed"),)


@pytest.mark.parametrize("content", ["", "two words", "é", "a" * 9000])
def test_token_file_has_one_token(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(InvalidChannelSecurity, match="must have one token"):
        ChannelSecurity(token_file=tmp_path / "token").metadata("127.0.0.1:1")


def test_ca_file_is_read_when_it_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InvalidChannelSecurity, match=r"the CA file .* cannot be read: No such file"):
        ChannelSecurity(tls=True, ca_file=tmp_path / "ca.crt").check()


def test_machine_authorities_are_certificates() -> None:
    found = ChannelSecurity(tls=True).authorities()
    assert found is None or found.startswith(b"-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(
    ("text", "address", "tls"),
    [("https://a:1/", "a:1", True), ("http://a:1", "a:1", False), ("a:1", "a:1", None), ("HTTPS://a:1", "a:1", True)],
)
def test_scheme_says_whether_it_is_tls(text: str, address: str, tls: bool | None) -> None:
    assert split_scheme(text) == (address, tls)


def test_loopback_is_this_machine_only() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com", "", "localhost.example.com")))


def test_problem_of_other_failures_is_none() -> None:
    assert connection_problem("failed to connect to all addresses; Connection refused", name="a", ca_file="") == ""

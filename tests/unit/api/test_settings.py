from collections.abc import Callable
from pathlib import Path

import pytest
from aisandbox_api import Settings, StartupError, create_server
from aisandbox_crds.errors import InvalidRun
from aisandbox_process.environ import InvalidSetting
from aisandbox_process.tls import ServerFiles
from aisandbox_trainer.runtime.settings import Settings as TrainerSettings


def test_settings_have_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environ({})
    assert (settings.grpc_host, settings.grpc_port) == ("127.0.0.1", 50051)
    assert settings.models_dir == tmp_path / "models"
    assert settings.models_dir.is_dir()
    assert (settings.checkpoint_dir, settings.inference_address, settings.metrics_port) == (None, None, None)
    assert settings.max_concurrent_runs >= 1
    assert (settings.backend, settings.deleted_run_retention_seconds) == ("local", 604_800)


def test_settings_are_read_from_variables(tmp_path: Path) -> None:
    settings = Settings.from_environ(
        {
            "GRPC_HOST": "0.0.0.0",
            "GRPC_PORT": "0",
            "MODELS_DIR": str(tmp_path / "m"),
            "CHECKPOINT_DIR": str(tmp_path / "c"),
            "LOG_LEVEL": "DEBUG",
            "MAX_CONCURRENT_RUNS": "3",
            "MAX_PENDING_RUNS": "0",
            "INFERENCE_ADDRESS": "inference:50052",
            "STOP_GRACE_SECONDS": "1.5",
            "METRICS_PORT": "0",
            "TRAINER_LAUNCHER": "process",
            "MAX_CONNECTION_AGE_SECONDS": "8",
            "REPLICAS_ADDRESS": "other:50051",
            "TRAINER_ADDRESS": "0.0.0.0:50052",
            "TLS_CERT_FILE": "/tls/tls.crt",
            "TLS_KEY_FILE": "/tls/tls.key",
            "TLS_CLIENT_CA_FILE": "/tls/ca.crt",
            "TLS_CA_FILE": "/ca.crt",
            "BACKEND": "kubernetes",
            "POD_NAMESPACE": "sandbox",
            "MAX_SIMULATORS": "7",
            "HTTP_PORT": "8080",
            "HTTP_ORIGINS": "https://a.example, null",
        }
    )
    assert settings == Settings(
        *("0.0.0.0", 0, tmp_path / "m", tmp_path / "c", "debug", 3, 0, "inference:50052", 1.5, 0, "process"),
        max_connection_age_seconds=8.0,
        replicas_address="other:50051",
        trainer_address="0.0.0.0:50052",
        max_simulators=7,
        tls=ServerFiles(Path("/tls/tls.crt"), Path("/tls/tls.key"), Path("/tls/ca.crt")),
        tls_ca_file=Path("/ca.crt"),
        backend="kubernetes",
        pod_namespace="sandbox",
        http_port=8080,
        http_origins=("https://a.example", "null"),
        simulator_diagnostics=False,
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GRPC_PORT", "65536"),
        ("GRPC_PORT", "-1"),
        ("TRAINER_ADDRESS", "50052"),
        ("TRAINER_ADDRESS", "unix:50052"),
        ("TRAINER_ADDRESS", "0.0.0.0:65536"),
        ("GRPC_PORT", "http"),
        ("LOG_LEVEL", "loud"),
        ("MAX_CONCURRENT_RUNS", "0"),
        ("MAX_PENDING_RUNS", "-1"),
        ("STOP_GRACE_SECONDS", "nan"),
        ("MAX_CONNECTION_AGE_SECONDS", "-1"),
        ("STOP_GRACE_SECONDS", "soon"),
        ("METRICS_PORT", "-1"),
        ("HTTP_PORT", "http"),
        ("HTTP_ORIGINS", "example.com"),
        ("HTTP_ORIGINS", "https://a.example/page"),
        ("MAX_SIMULATORS", "-1"),
        ("METRICS_PORT", "-7"),
        ("TRAINER_LAUNCHER", "rocket"),
        ("BACKEND", "nomad"),
        ("DELETED_RUN_RETENTION_SECONDS", "-1"),
        ("DELETED_RUN_RETENTION_SECONDS", "nan"),
        ("SIMULATOR_PATIENCE_SECONDS", "0"),
        ("SIMULATOR_PATIENCE_SECONDS", "soon"),
        ("SIMULATOR_TIMEOUT_SECONDS", "-1"),
        ("SIMULATOR_TIMEOUT_SECONDS", "inf"),
        ("SIMULATOR_TIMEOUT_SECONDS", "nan"),
        ("TORCH_NUM_THREADS", "all"),
        ("FAST_UPDATE", "yes"),
        ("GRPC_DIRECT", "0"),
    ],
)
def test_bad_variable_is_named(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=variable) as refusal:
        Settings.from_environ({"MODELS_DIR": str(tmp_path), variable: value})
    assert value in str(refusal.value)


@pytest.mark.parametrize(
    "variable", ["SIMULATOR_PATIENCE_SECONDS", "SIMULATOR_TIMEOUT_SECONDS", "TORCH_NUM_THREADS", "FAST_UPDATE"]
)
@pytest.mark.parametrize("value", ["", "0.5", "300", "1e3", "0", "1e9", "-2", "x", "nan", "on", "OFF"])
def test_variable_of_the_trainers_is_refused_exactly_when_they_would(tmp_path: Path, variable: str, value: str) -> None:
    def refuses(read: Callable[[dict[str, str]], object]) -> bool:
        try:
            read({"MODELS_DIR": str(tmp_path), variable: value})
        except (InvalidSetting, InvalidRun):
            return True
        return False

    assert refuses(Settings.from_environ) == refuses(TrainerSettings.from_environ)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSetting, match="MODELS_DIR"):
        Settings.from_environ({"MODELS_DIR": str(tmp_path / "file" / "models")})


def test_kubernetes_needs_its_namespace(tmp_path: Path) -> None:
    variables = {"BACKEND": "kubernetes", "MODELS_DIR": str(tmp_path)}
    with pytest.raises(InvalidSetting, match="POD_NAMESPACE"):
        Settings.from_environ(variables)
    variables |= {"POD_NAMESPACE": "lab", "PROGRESS_AUDIENCE": "me", "DELETED_RUN_RETENTION_SECONDS": "5"}
    settings = Settings.from_environ(variables)
    assert (settings.backend, settings.pod_namespace, settings.progress_audience) == ("kubernetes", "lab", "me")
    assert settings.deleted_run_retention_seconds == 5


def test_adapter_cannot_be_served_to_pods(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path, backend="kubernetes", pod_namespace="lab")
    with pytest.raises(StartupError, match="adapter_factory"):
        create_server(settings, adapter_factory=lambda: None)  # type: ignore[arg-type,return-value]


def test_local_trainers_are_not_asked_for_tls(tmp_path: Path) -> None:
    environ = {"MODELS_DIR": str(tmp_path), "TLS_CERT_FILE": "c", "TLS_KEY_FILE": "k"}
    with pytest.raises(InvalidSetting, match="TRAINER_ADDRESS: must be an address of this machine only"):
        Settings.from_environ({**environ, "TRAINER_ADDRESS": "0.0.0.0:0"})
    assert Settings.from_environ({**environ, "TRAINER_ADDRESS": "127.0.0.1:0"}).tls is not None


@pytest.mark.parametrize(
    ("variables", "allowed"),
    [
        ({}, ("*",)),
        ({"GRPC_HOST": "::1"}, ("*",)),
        ({"GRPC_HOST": "0.0.0.0"}, ()),
        ({"INSECURE": "true"}, ()),
        ({"AUTH": "kubernetes"}, ()),
        ({"INSECURE": "true", "ENVIRONMENT_MODULES": "my_envs, lab.*"}, ("my_envs", "lab.*")),
        ({"GRPC_HOST": "0.0.0.0", "BACKEND": "kubernetes", "POD_NAMESPACE": "lab"}, ("*",)),
    ],
)
def test_modules_that_ids_may_name_are_listed_where_others_may_call(
    tmp_path: Path, variables: dict[str, str], allowed: tuple[str, ...]
) -> None:
    assert Settings.from_environ({"MODELS_DIR": str(tmp_path), **variables}).allowed_modules == allowed


def test_names_of_modules_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="ENVIRONMENT_MODULES"):
        Settings.from_environ({"MODELS_DIR": str(tmp_path), "ENVIRONMENT_MODULES": "my-envs"})

from __future__ import annotations

from pathlib import Path

import pytest
from aisandbox_inference.settings import Settings
from aisandbox_process.environ import InvalidSetting


def test_settings_have_the_defaults_of_the_design(tmp_path: Path) -> None:
    settings = Settings.from_environ({"MODELS_DIR": str(tmp_path), "GRPC_PORT": ""})
    assert (settings.grpc_host, settings.grpc_port, settings.log_level) == ("127.0.0.1", 50051, "info")
    assert settings.models_dir == tmp_path
    assert settings.metrics_port is None


def test_settings_are_read_from_the_environment(tmp_path: Path) -> None:
    settings = Settings.from_environ(
        {
            "MODELS_DIR": str(tmp_path),
            "GRPC_HOST": "0.0.0.0",
            "GRPC_PORT": "0",
            "METRICS_PORT": "9090",
            "LOG_LEVEL": "DEBUG",
            "MODEL_CACHE_BYTES": "1048576",
            "MAX_BATCH_OBSERVATIONS": "7",
            "STOP_GRACE_SECONDS": "0.5",
            "INFERENCE_THREADS": "3",
            "MAX_MESSAGE_BYTES": "2048",
        }
    )
    assert settings == Settings(
        models_dir=tmp_path,
        grpc_host="0.0.0.0",
        grpc_port=0,
        metrics_port=9090,
        log_level="debug",
        model_cache_bytes=1 << 20,
        max_batch_observations=7,
        max_message_bytes=2048,
        inference_threads=3,
        stop_grace_seconds=0.5,
    )


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("GRPC_PORT", "70000", "whole number from 0 to 65535"),
        ("GRPC_PORT", "fifty", "whole number"),
        ("METRICS_PORT", "-1", "whole number"),
        ("LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("MODEL_CACHE_BYTES", "1000", "whole number from 1048576"),
        ("MAX_BATCH_OBSERVATIONS", "0", "whole number from 1"),
        ("INFERENCE_THREADS", "1.5", "whole number"),
        ("STOP_GRACE_SECONDS", "nan", "seconds"),
        ("MODELS_DIR", "/no/such/folder", "must be an existing folder"),
    ],
)
def test_setting_that_breaks_a_rule_is_named(tmp_path: Path, name: str, value: str, rule: str) -> None:
    with pytest.raises(InvalidSetting, match=rule) as caught:
        Settings.from_environ({"MODELS_DIR": str(tmp_path), name: value})
    assert caught.value.variable == name
    assert str(caught.value).startswith(f"{name}: ")

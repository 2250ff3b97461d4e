import pytest
from aisandbox_crds import TRAINER_NUMBERS
from aisandbox_operator.settings import Settings
from aisandbox_process.environ import InvalidSetting

NEEDED = {"POD_NAMESPACE": "sandbox", "TRAINER_IMAGE": "trainer:1"}


def test_settings_have_the_documented_defaults() -> None:
    settings = Settings.from_environ(NEEDED)
    assert settings == Settings(namespace="sandbox", trainer_image="trainer:1")
    assert (settings.termination_grace_seconds, settings.start_deadline_seconds) == (120, 600)


def test_settings_are_read() -> None:
    resources = '{"limits": {"memory": "1Gi"}}'
    settings = Settings.from_environ({**NEEDED, "TRAINER_RESOURCES": resources, "WORKERS": "2", "LOG_LEVEL": "DEBUG"})
    assert settings.trainer_resources == {"limits": {"memory": "1Gi"}}
    assert (settings.workers, settings.log_level) == (2, "debug")


def test_settings_of_trainers_are_those_that_are_set() -> None:
    given = dict.fromkeys(TRAINER_NUMBERS, "7")
    settings = Settings.from_environ({**NEEDED, **given, "TRAINER_MEMORY_BYTES": "1000", "DISK_PATIENCE_SECONDS": ""})
    assert settings.trainer_numbers == {name: "7" for name in TRAINER_NUMBERS if name != "DISK_PATIENCE_SECONDS"}
    assert settings.trainer_memory_bytes == 1000


@pytest.mark.parametrize("missing", NEEDED)
def test_settings_without_a_default_are_required(missing: str) -> None:
    with pytest.raises(InvalidSetting, match=missing):
        Settings.from_environ({**NEEDED, missing: ""})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORKERS", "0"),
        ("RESYNC_SECONDS", "soon"),
        ("PROBE_PORT", "70000"),
        ("LOG_LEVEL", "loud"),
        ("TRAINER_IMAGE_PULL_POLICY", "Sometimes"),
        ("TRAINER_RESOURCES", "4Gi"),
        ("TRAINER_MEMORY_BYTES", "4Gi"),
        *((name, "-1") for name in TRAINER_NUMBERS),
        ("TRAINER_POD_TEMPLATE", "team: games"),
        ("TRAINER_POD_ALLOWED", "[]"),
        ("FAST_UPDATE", "no"),
        ("GRPC_DIRECT", "0"),
        ("KOPF_PATCH", "1"),
    ],
)
def test_setting_that_breaks_its_rule_is_named(variable: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{variable}: must be"):
        Settings.from_environ({**NEEDED, variable: value})


@pytest.mark.parametrize(
    ("resources", "rule"),
    [
        ('{"memory": "4Gi"}', "memory: unknown field; known: requests, limits"),
        ('{"limits": "4Gi"}', "limits: must be an object"),
        ('{"limits": {"memory": ["4Gi"]}}', "limits.memory: must be a quantity"),
        ('{"limits": {"memory": "4GB"}}', "limits.memory: must be a quantity"),
        ('{"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}', "requests.cpu: must not be greater than the limit"),
    ],
)
def test_resources_that_every_job_would_be_refused_for_are_refused_at_the_start(resources: str, rule: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^TRAINER_RESOURCES: {rule}"):
        Settings.from_environ({**NEEDED, "TRAINER_RESOURCES": resources})

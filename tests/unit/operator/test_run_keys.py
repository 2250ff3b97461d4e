"""Each run's trainer gets a key of its own from a Secret, the same after restarts of everything."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from aisandbox_crds.status import TrainingRunStatus
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_kubernetes import Conflict, Forbidden, Json
from aisandbox_operator.job_manifest import job_manifest, job_origin
from aisandbox_operator.run_keys import INSTALLATION, RunKeys
from operator_objects import NOW, SETTINGS, ago, run, spec


class Secrets:
    """The Secrets of a namespace; what the API server does not allow is refused."""

    def __init__(self, refused: str = "") -> None:
        self.stored: dict[str, Json] = {}
        self._refused = refused

    async def secret(self, name: str) -> Json | None:
        assert name == INSTALLATION, "the operator may read no other"
        self._check("get")
        return self.stored.get(name)

    async def create_secret(self, manifest: Json) -> None:
        self._check("create")
        name = manifest["metadata"]["name"]
        if name in self.stored:
            raise Conflict("POST", "AlreadyExists", status=409)
        self.stored[name] = manifest

    def _check(self, verb: str) -> None:
        if verb == self._refused:
            raise Forbidden(verb, "no", status=403)

    def key(self, name: str) -> str:
        return base64.b64decode(self.stored[name]["data"]["key"]).decode()


def keys_of(secrets: Secrets) -> RunKeys:
    return RunKeys(secrets, lambda: NOW)


async def test_runs_have_keys_of_their_own_that_outlive_the_operator() -> None:
    secrets = Secrets()
    names = []
    for _ in range(2):  # two operators, one after the other
        keys = keys_of(secrets)
        for one in (run(created=NOW), run(created=NOW, uid="other-uid", name="other")):
            source = await keys.source(one)
            assert source is not None
            assert not source.accepts_unsigned
            names.append(source.secret)
    assert names[:2] == names[2:]
    assert len({secrets.key(name) for name in names}) == 2
    assert len(secrets.stored) == 3
    (owner,) = secrets.stored[names[0]]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("TrainingRun", "run-uid")


async def test_restored_run_has_the_key_of_its_files() -> None:
    secrets = Secrets()
    before = await keys_of(secrets).source(run(created=NOW))
    assert before is not None
    restored = run(TrainingRunStatus(files_uid="run-uid"), created=NOW, uid="new-uid")
    after = await keys_of(secrets).source(restored)
    assert after is not None
    assert after.secret != before.secret
    assert secrets.key(after.secret) == secrets.key(before.secret)


@pytest.mark.parametrize(
    ("created", "start_time", "accepts"),
    [(ago(-5), None, False), (ago(5), None, True), (ago(-5), "2026-03-01T11:00:00Z", True)],
    ids=["later", "earlier", "restored, and begun earlier"],
)
async def test_runs_from_before_the_keys_may_have_unsigned_checkpoints(
    created: Any, start_time: str | None, accepts: bool
) -> None:
    source = await keys_of(Secrets()).source(run(TrainingRunStatus(start_time=start_time), created=created))
    assert source is not None
    assert source.accepts_unsigned is accepts


@pytest.mark.parametrize("verb", ["get", "create"])
async def test_operator_without_the_right_trains_without_keys(verb: str) -> None:
    assert await keys_of(Secrets(verb)).source(run(created=NOW)) is None


async def test_trainer_reads_its_key_and_the_job_is_not_another_one_for_it() -> None:
    source = await keys_of(Secrets()).source(run(created=NOW - timedelta(hours=1)))
    assert source is not None
    job = job_manifest("walk", "run-uid", spec(), SETTINGS, 0, False, key=source)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each for each in container["env"]}
    assert variables["CHECKPOINT_KEY"]["valueFrom"]["secretKeyRef"] == {"name": source.secret, "key": "key"}
    environ = {name: each.get("value", "0f" * 32) for name, each in variables.items()}
    assert TrainerStart.from_environ(environ).accept_unsigned_checkpoints
    assert job_origin("walk", "run-uid", spec(), SETTINGS).template in json.dumps(job["metadata"])

"""Each run's trainer gets a key of its own from a Secret, the same after restarts of everything."""

from __future__ import annotations

import base64
import json
from datetime import datetime

import pytest
from aisandbox_crds.status import TrainingRunStatus
from aisandbox_crds.status_values import Artifact
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_kubernetes import Conflict, Forbidden, Json
from aisandbox_operator.job_manifest import job_manifest, job_origin
from aisandbox_operator.run_keys import INSTALLATION, RunKeys
from operator_objects import NOW, RUNNING, SETTINGS, ago, run, spec


class Secrets:
    """The Secrets of a namespace. ``refused``: calls that the API server does not allow, as (verb, part of a name)."""

    def __init__(self, *refused: tuple[str, str]) -> None:
        self.stored: dict[str, Json] = {}
        self.refused = list(refused)

    async def secret(self, name: str) -> Json | None:
        assert name == INSTALLATION, "the operator may read no other"
        self._check("get", name)
        return self.stored.get(name)

    async def create_secret(self, manifest: Json) -> None:
        name = manifest["metadata"]["name"]
        self._check("create", name)
        if name in self.stored:
            raise Conflict("POST", "AlreadyExists", status=409)
        self.stored[name] = manifest

    def _check(self, verb: str, name: str) -> None:
        if any(verb == refused and part in name for refused, part in self.refused):
            raise Forbidden(verb, "exceeded quota", status=403)

    def key(self, name: str) -> str:
        return self._entry(name, "key")

    def accepts_unsigned(self, name: str) -> bool:
        return {"true": True, "false": False}[self._entry(name, "accept-unsigned")]

    def _entry(self, name: str, entry: str) -> str:
        return base64.b64decode(self.stored[name]["data"][entry]).decode()


def keys_of(secrets: Secrets) -> RunKeys:
    return RunKeys(secrets, lambda: NOW)


async def test_runs_have_keys_of_their_own_that_outlive_the_operator() -> None:
    secrets = Secrets()
    names = []
    for _ in range(2):  # two operators, one after the other
        keys = keys_of(secrets)
        for one in (run(created=NOW), run(created=NOW, uid="other-uid", name="other")):
            source = await keys.source(one)
            assert not source.may_be_missing
            names.append(source.secret)
    assert names[:2] == names[2:]
    assert len({secrets.key(name) for name in names}) == 2
    assert len(secrets.stored) == 3
    (owner,) = secrets.stored[names[0]]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("TrainingRun", "run-uid")


async def test_restored_run_has_the_key_of_its_files() -> None:
    secrets = Secrets()
    before = await keys_of(secrets).source(run(created=NOW))
    restored = run(TrainingRunStatus(files_uid="run-uid"), created=NOW, uid="new-uid")
    after = await keys_of(secrets).source(restored)
    assert after.secret != before.secret
    assert secrets.key(after.secret) == secrets.key(before.secret)


@pytest.mark.parametrize("created", [ago(3600), ago(-5)], ids=["created before the keys", "created after them"])
async def test_first_job_of_a_run_refuses_unsigned_checkpoints_for_the_runs_life(created: datetime) -> None:
    secrets = Secrets()
    source = await keys_of(secrets).source(run(created=created))
    assert not secrets.accepts_unsigned(source.secret)
    del secrets.stored[INSTALLATION]  # lost, and made again by the next operator
    key = secrets.key(source.secret)
    again = await keys_of(secrets).source(run(RUNNING, created=created))
    assert (again, secrets.key(again.secret)) == (source, key)
    assert not secrets.accepts_unsigned(again.secret)


@pytest.mark.parametrize("created", [ago(3600), ago(-5)], ids=["before the keys", "by an earlier version after them"])
async def test_run_that_began_without_a_key_may_have_unsigned_checkpoints(created: datetime) -> None:
    secrets = Secrets()
    source = await keys_of(secrets).source(run(RUNNING, created=created))
    assert secrets.accepts_unsigned(source.secret)


async def test_run_that_trained_while_no_operator_ran_may_have_unsigned_checkpoints() -> None:
    secrets = Secrets()
    status = TrainingRunStatus(latest_checkpoint=Artifact("checkpoints/100", 100, "sha256:" + "0" * 64))
    source = await keys_of(secrets).source(run(status, created=ago(3600)))
    assert secrets.accepts_unsigned(source.secret)


@pytest.mark.parametrize(("start", "accepts"), [("2026-03-01T11:00:00Z", True), ("2026-03-01T12:00:05Z", False)])
async def test_restored_run_may_have_unsigned_checkpoints_if_it_began_before_the_keys(
    start: str, accepts: bool
) -> None:
    secrets = Secrets()
    status = TrainingRunStatus(files_uid="files-uid", start_time=start, attempt=1)
    source = await keys_of(secrets).source(run(status, created=ago(-5)))
    assert secrets.accepts_unsigned(source.secret) is accepts


@pytest.mark.parametrize("verb", ["get", "create"])
async def test_time_without_the_permission_to_use_secrets_costs_no_progress(verb: str) -> None:
    secrets = Secrets((verb, ""))
    without = await keys_of(secrets).source(run(created=NOW))
    assert without.may_be_missing
    secrets.refused.clear()
    later = await keys_of(secrets).source(run(RUNNING, created=NOW))
    assert not later.may_be_missing
    assert secrets.accepts_unsigned(later.secret), "the trainer before it has signed nothing"

    secrets.refused.append(("get", ""))
    once_more = await keys_of(secrets).source(run(RUNNING, created=NOW))
    assert once_more.secret == later.secret, "the trainer goes on signing with the key that it had"


async def test_run_waits_while_its_secret_is_refused() -> None:
    secrets = Secrets(("create", "walk-key-"))
    with pytest.raises(Forbidden, match="exceeded quota"):
        await keys_of(secrets).source(run(created=NOW))
    secrets.refused.clear()
    source = await keys_of(secrets).source(run(created=NOW))
    assert not secrets.accepts_unsigned(source.secret)


@pytest.mark.parametrize("began", [False, True])
async def test_trainer_reads_its_key_and_the_job_is_not_another_one_for_it(began: bool) -> None:
    secrets = Secrets()
    source = await keys_of(secrets).source(run(RUNNING if began else None, created=NOW))
    job = job_manifest("walk", "run-uid", spec(), SETTINGS, 0, False, key=source)
    start = TrainerStart.from_environ(_environ(job, secrets))
    assert (start.checkpoint_key, start.accept_unsigned_checkpoints) == (secrets.key(source.secret), began)
    assert job_origin("walk", "run-uid", spec(), SETTINGS).template in json.dumps(job["metadata"])


async def test_trainer_starts_without_a_key_where_there_can_be_none() -> None:
    secrets = Secrets(("get", ""))
    job = job_manifest("walk", "run-uid", spec(), SETTINGS, 0, False, key=await keys_of(secrets).source(run()))
    start = TrainerStart.from_environ(_environ(job, secrets))
    assert (start.checkpoint_key, start.accept_unsigned_checkpoints) == (None, False)


def _environ(job: Json, secrets: Secrets) -> dict[str, str]:
    """The variables of the trainer, as a kubelet sets them."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    environ = {}
    for each in container["env"]:
        source = each.get("valueFrom", {}).get("secretKeyRef")
        if source is None:
            environ[each["name"]] = each.get("value", "0")
        elif source["key"] in secrets.stored.get(source["name"], {"data": {}})["data"]:
            environ[each["name"]] = base64.b64decode(secrets.stored[source["name"]]["data"][source["key"]]).decode()
        else:
            assert source.get("optional"), "the kubelet does not start the container"
    return environ

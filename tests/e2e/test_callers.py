"""Callers with tokens of the cluster: what the roles let them do, at both servers, and whose tokens are none."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import simulator_pool_pb2_grpc
from aisandbox_access import OWNER_ANNOTATION
from aisandbox_crds.trainingrun import GROUP, VERSION
from aisandbox_environment import Attachment, list_simulators
from attached_simulators import SIMULATION, registration
from cluster import PLURAL
from guarded_installation import NOBODY, PORT, ROLES, Guarded
from kubernetes import client
from port_forward import PortForward
from tls_secrets import API, INFERENCE
from waiting import wait_until

Code = grpc.StatusCode
QUEUE = pb.Placement(queue="nobody-admits")
"""A run's Job is created suspended then, so it has no trainer."""


def start(stub: Any, **fields: Any) -> str:
    request = pb.TrainingRequest(
        experiment_id=f"guarded-{secrets.token_hex(3)}",
        total_timesteps=512,
        hyperparameters={"n_steps": "128"},
        environment=pb.Environment(gymnasium=pb.GymnasiumEnvironment(id="CartPole-v1")),
        **fields,
    )
    return str(stub.StartTrainingPPO(request, timeout=60).run_id)


def attach(channel: Any) -> None:
    """Joins a pool and leaves it."""
    leaves = threading.Event()

    def requests() -> Iterator[Any]:
        yield registration(f"guarded-{secrets.token_hex(3)}")
        leaves.wait(60)

    call: Any = simulator_pool_pb2_grpc.SimulatorPoolServiceStub(channel).Attach(requests(), timeout=60)
    try:
        assert next(call).HasField("registered")
    finally:
        leaves.set()
        call.cancel()


Call = Callable[[Any, str], object]
CALLS: dict[str, tuple[Call, set[str]]] = {
    "list": (
        lambda stub, run: stub.ListTrainingRuns(pb.ListTrainingRunsRequest(), timeout=60),
        {"viewer", "actor", "trainer", "admin"},
    ),
    "status": (
        lambda stub, run: stub.GetTrainingStatus(pb.StatusRequest(run_id=run), timeout=60),
        {"viewer", "actor", "trainer", "admin"},
    ),
    "act": (
        lambda stub, run: stub.Act(pb.ActRequest(run_id=run, observation=[0.0] * 4), timeout=60),
        {"actor", "trainer", "admin"},
    ),
    "model": (
        lambda stub, run: stub.DescribeModel(pb.DescribeModelRequest(run_id=run), timeout=60),
        {"actor", "trainer", "admin"},
    ),
    "start": (lambda stub, run: start(stub, placement=QUEUE), {"trainer", "admin"}),
}
"""What is called, and the roles that may."""
AT_INFERENCE = ("act", "model")


def outcome(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return Code.OK, ""


@pytest.fixture(scope="module")
def tokens(guarded: Guarded) -> dict[str, str]:
    return {account: guarded.token(account) for account in (*ROLES, NOBODY)}


@pytest.fixture(scope="module")
def run(guarded: Guarded, tokens: dict[str, str]) -> str:
    """A run that the account ``trainer`` has started, with a model."""
    with guarded.calling(tokens["trainer"]) as stub:
        name = start(stub)
        guarded.place.until_phase(name, "Succeeded", "Failed", seconds=240)
        status = stub.GetTrainingStatus(pb.StatusRequest(run_id=name), timeout=60)
        assert status.phase == pb.PHASE_SUCCEEDED, status
        assert status.timesteps_done >= 512
        wait_until(lambda: outcome(lambda: CALLS["act"][0](stub, name)), lambda seen: seen[0] is Code.OK, seconds=60)
    return name


@pytest.mark.parametrize("account", [*ROLES, NOBODY])
def test_account_may_call_what_its_role_allows(
    guarded: Guarded, tokens: dict[str, str], run: str, account: str
) -> None:
    found = {}
    with guarded.calling(tokens[account]) as stub:
        for name, (call, _) in CALLS.items():
            found[name] = outcome(lambda call=call: call(stub, run))  # type: ignore[misc]
    with guarded.channel(tokens[account]) as channel:
        found["attach"] = outcome(lambda: attach(channel))
    with guarded.calling(tokens[account], INFERENCE) as stub:
        for name in AT_INFERENCE:
            found[f"{name} at the inference-server"] = outcome(lambda name=name: CALLS[name][0](stub, run))  # type: ignore[misc]
    allowed = {
        **{name: account in roles for name, (_, roles) in CALLS.items()},
        "attach": account in ("simulator", "admin"),
        **{f"{name} at the inference-server": account in CALLS[name][1] for name in AT_INFERENCE},
    }
    assert {name: code for name, (code, _) in found.items()} == {
        name: Code.OK if may else Code.PERMISSION_DENIED for name, may in allowed.items()
    }, found
    for name, (code, details) in found.items():
        assert code is Code.OK or f"'{guarded.user(account)}' lacks the permission" in details, name


def test_run_belongs_to_who_started_it_and_is_cancelled_by_those_who_may(
    guarded: Guarded, tokens: dict[str, str]
) -> None:
    with guarded.calling(tokens["trainer"]) as stub:
        name = start(stub, placement=QUEUE)
    for account in ("viewer", "actor", "simulator", NOBODY):
        with guarded.calling(tokens[account]) as stub:
            code, details = outcome(lambda: stub.CancelTraining(pb.CancelTrainingRequest(run_id=name), timeout=60))
        assert code is Code.PERMISSION_DENIED, (account, details)
    with guarded.calling(tokens["viewer"]) as stub:
        assert stub.GetTrainingStatus(pb.StatusRequest(run_id=name), timeout=60).owner == guarded.user("trainer")
    found = guarded.place.run(name)
    assert found is not None
    assert found["metadata"]["annotations"][OWNER_ANNOTATION] == guarded.user("trainer")
    with guarded.calling(tokens["trainer"]) as stub:
        stub.CancelTraining(pb.CancelTrainingRequest(run_id=name), timeout=60)
    guarded.place.until_phase(name, "Cancelled", seconds=120)


def test_role_for_one_run_or_pool_reaches_no_further(guarded: Guarded, tokens: dict[str, str], run: str) -> None:
    """With resourceNames of RBAC: the name of a run, or of a pool."""
    kubectl = guarded.place.kubectl
    kubectl("create", "serviceaccount", "partner")
    for role, verb, resource, name in (
        ("one-policy", "create", "act", run),
        ("one-pool", "create", "simulate", "arena"),
    ):
        rule = {"apiGroups": ["aisandbox.dev"], "resources": [f"trainingruns/{resource}"], "verbs": [verb]}
        kubectl.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "metadata": {"name": role},
                "rules": [{**rule, "resourceNames": [name]}],
            }
        )
        kubectl("create", "rolebinding", role, f"--role={role}", f"--serviceaccount={guarded.place.namespace}:partner")
    token = guarded.token("partner")
    with guarded.channel(token) as channel:
        attach(channel)
    with guarded.calling(tokens["trainer"]) as stub:
        other = start(stub, placement=QUEUE)
    with guarded.calling(token) as stub:
        assert outcome(lambda: CALLS["act"][0](stub, run))[0] is Code.OK
        assert outcome(lambda: CALLS["act"][0](stub, other))[0] is Code.PERMISSION_DENIED
        assert outcome(lambda: CALLS["model"][0](stub, run))[0] is Code.PERMISSION_DENIED
        assert outcome(lambda: CALLS["list"][0](stub, run))[0] is Code.PERMISSION_DENIED


def test_tokens_that_are_none_are_refused(guarded: Guarded, tokens: dict[str, str], run: str) -> None:
    kubectl = guarded.place.kubectl
    kubectl("create", "secret", "generic", "bound")
    of_deleted_object = guarded.token("admin", "aisandbox", "--bound-object-kind=Secret", "--bound-object-name=bound")
    kubectl("delete", "secret", "bound")
    head, body, signature = tokens["admin"].split(".")
    refused = {
        "none": "",
        "no token at all": "abc",
        "of the API server's audience": guarded.token("admin", ""),
        "of another audience": guarded.token("admin", "another"),
        "of an object that is deleted": of_deleted_object,
        "with another signature": f"{head}.{body}.{signature[::-1]}",
    }
    for server in (API, INFERENCE):
        for what, token in refused.items():
            with guarded.calling(token, server) as stub:
                code, details = outcome(lambda: CALLS["act"][0](stub, run))
            assert code is Code.UNAUTHENTICATED, (server, what, details)


def test_tokens_of_clients_are_no_use_at_the_api_server(guarded: Guarded, tokens: dict[str, str]) -> None:
    """Whoever gets one, as the service does, cannot be its owner towards the cluster."""
    own: Any = guarded.place.core.api_client.configuration
    settings = client.Configuration(host=own.host, api_key={"authorization": f"Bearer {tokens['admin']}"})
    settings.ssl_ca_cert = own.ssl_ca_cert
    with client.ApiClient(settings) as api, pytest.raises(client.ApiException) as caught:
        client.CustomObjectsApi(api).list_namespaced_custom_object(GROUP, VERSION, guarded.place.namespace, PLURAL)
    assert caught.value.status == 401


def test_replicas_know_the_simulators_of_each_other(guarded: Guarded, tokens: dict[str, str]) -> None:
    """They ask each other with tokens of their own."""
    place = guarded.place
    place.kubectl("scale", f"deployment/{API}", "--replicas=2")
    place.until_rolled_out(API)
    pods = [f"pod/{name}" for name in place.staying_pods(f"app.kubernetes.io/name={API}")]
    with PortForward(place.kubectl, pods[0], PORT) as one, PortForward(place.kubectl, pods[1], PORT) as other:
        attachment = Attachment(SIMULATION, one.address, "arena", security=guarded.security(tokens["simulator"]))
        thread = threading.Thread(target=attachment.run)
        thread.start()
        try:
            seen = guarded.security(tokens["viewer"])
            wait_until(lambda: list_simulators(other.address, "arena", security=seen, timeout=30), seconds=120)
        finally:
            attachment.stop()
            thread.join(60)
    place.kubectl("scale", f"deployment/{API}", "--replicas=1")
    place.until_rolled_out(API)

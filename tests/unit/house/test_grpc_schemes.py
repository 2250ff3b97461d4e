"""Two packages that may not import each other refuse the same hosts."""

from aisandbox_crds.spec import GRPC_SCHEMES as OF_RUNS
from aisandbox_process import GRPC_SCHEMES as DIALLED


def test_schemes_of_grpc_are_the_same_for_a_run_and_for_who_dials() -> None:
    assert OF_RUNS == DIALLED

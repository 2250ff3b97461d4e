"""Private names of stable-baselines3 and PyTorch are used in one module each."""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import aisandbox_trainer
import pytest
from stable_baselines3.common import base_class, buffers, off_policy_algorithm, on_policy_algorithm, policies
from stable_baselines3.common.vec_env import base_vec_env, dummy_vec_env, vec_normalize

SOURCES = Path(aisandbox_trainer.__file__).parent
SB3: list[ModuleType] = [
    base_class,
    on_policy_algorithm,
    off_policy_algorithm,
    buffers,
    policies,
    base_vec_env,
    dummy_vec_env,
    vec_normalize,
]
TORCH = re.compile(r"torch\.optim\.(adam|rmsprop)|\b(th|torch)\.(ops|_[a-z])")


def _private_attributes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            yield node.attr


@cache
def _private_names_of_sb3() -> frozenset[str]:
    return frozenset(name for module in SB3 for name in _private_attributes(ast.parse(inspect.getsource(module))))


def _modules_but(name: str) -> list[Path]:
    return [path for path in sorted(SOURCES.rglob("*.py")) if path.name != name]


@pytest.mark.parametrize("path", _modules_but("_sb3_internals.py"), ids=lambda path: str(path.relative_to(SOURCES)))
def test_private_names_of_sb3_are_used_in_one_module(path: Path) -> None:
    assert "_last_obs" in _private_names_of_sb3()
    assert _private_names_of_sb3() & set(_private_attributes(ast.parse(path.read_text()))) == set()


@pytest.mark.parametrize("path", _modules_but("_torch_internals.py"), ids=lambda path: str(path.relative_to(SOURCES)))
def test_private_names_of_pytorch_are_used_in_one_module(path: Path) -> None:
    assert TORCH.search(path.read_text()) is None

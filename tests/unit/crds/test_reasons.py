"""One enumeration has every reason, with a sentence each, and the documentation has the same sentences."""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import aisandbox_crds.reasons
import pytest
from aisandbox_crds.conditions import ConditionType
from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase

ROOT = Path(__file__).parents[3]
MEMBERS = ("crds", "operator", "api_server", "trainer_image")
OTHER_WORDS = {*Phase, *ConditionType}
"""Values of other enumerations, which are written as text where Kubernetes' own status is read."""


def sentences() -> dict[str, str]:
    """Of each member, what stands below it."""
    tree = ast.parse(Path(aisandbox_crds.reasons.__file__).read_text(encoding="utf-8"))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Reason").body
    found = {}
    for member, below in itertools.pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            name = member.targets[0]
            assert isinstance(name, ast.Name)
            found[name.id] = str(below.value.value)
    return found


def test_reason_has_one_sentence() -> None:
    assert list(sentences()) == [reason.name for reason in Reason]
    for name, sentence in sentences().items():
        assert re.fullmatch(r"[A-Z][^\n]*[A-Za-z0-9)]\.", sentence), name
        assert not re.search(r"[a-z]\. [A-Z]", sentence), f"{name}: more than one sentence"


def test_reason_is_one_camel_case_word_that_the_resource_takes() -> None:
    assert all(re.fullmatch(r"[A-Z][A-Za-z]*", reason) for reason in Reason)


def test_documentation_has_every_reason_with_its_sentence() -> None:
    page = (ROOT / "docs" / "operator.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| `[A-Z][A-Za-z]+` \| [A-Z]", line)]
    assert rows == [f"| `{reason.value}` | {sentences()[reason.name]} |" for reason in Reason]


def test_page_of_the_resource_has_every_reason_of_a_failure() -> None:
    page = (ROOT / "docs" / "trainingrun.md").read_text(encoding="utf-8").partition("\n## Reasons of failures\n")[2]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    in_table = [word for cell in rows for word in re.findall(r"`(\w+)`", cell)]
    of_failures = list(Reason)[list(Reason).index(Reason.INVALID_RUN) :]
    assert sorted(in_table) == sorted(of_failures)


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """The texts in a module's code that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.lineno, node.value


def reason_arguments(path: Path) -> Iterator[tuple[int, str]]:
    """The texts that are passed or assigned as a reason."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            found = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            place = {"Failure": 0, "bounded_failure": 0, "Decision": 1, "Condition": 2}.get(name)
            found += node.args[place : place + 1] if place is not None else []
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "reason" for t in node.targets):
            found = [node.value]
        else:
            continue
        for value in found:
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
                yield value.lineno, value.value


@pytest.mark.parametrize("member", MEMBERS)
def test_no_reason_is_a_literal_outside_the_enumeration(member: str) -> None:
    words = set(Reason) - OTHER_WORDS
    found = []
    for path in sorted((ROOT / member / "src").rglob("*.py")):
        if path.name in ("reasons.py", "__init__.py"):  # __all__ names the class InvalidRun
            continue
        named = [(line, text) for line, text in literals(path) if text in words]
        found += [f"{path.relative_to(ROOT)}:{line}: {text}" for line, text in (*named, *reason_arguments(path))]
    assert not found

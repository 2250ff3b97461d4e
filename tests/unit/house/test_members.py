"""The lists of the workspace's members: each is derived from the folders, and no other file needs one."""

from __future__ import annotations

import tomllib

import pytest
from members import ROOT, Member, members, with_lists
from workspace import folders

TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
NEW = Member("new_member", "aisandbox-new", ("aisandbox_new",))


def test_lists_of_pyproject_are_the_members() -> None:
    assert with_lists(TEXT, members()) == TEXT, "run `make members`"


def test_lock_file_has_the_members() -> None:
    assert folders() == {each.distribution: each.folder for each in members()}


def test_a_new_member_gets_into_every_list() -> None:
    text = with_lists(TEXT, [*members(), NEW])
    added = [line.strip() for line in text.splitlines() if line not in TEXT.splitlines()]
    assert added == [
        '"new_member",',
        "aisandbox-new = { workspace = true }",
        '"new_member/src",',
        '"aisandbox_new",',
        '"aisandbox_new",',
    ]


def test_a_list_that_is_missing_is_an_error() -> None:
    with pytest.raises(ValueError, match="source_pkgs"):
        with_lists(TEXT.replace("source_pkgs", "source"), members())


def test_members_with_many_modules_have_layers_of_all_of_them() -> None:
    contracts = tomllib.loads(TEXT)["tool"]["importlinter"]["contracts"]
    layered = {name for each in contracts if each.get("exhaustive") for name in each["containers"]}
    many = {package for each in members() for package in each.packages if _number_of_modules(each, package) > 15}
    assert many - layered == set()


def _number_of_modules(member: Member, package: str) -> int:
    return len([path for path in (ROOT / member.folder / "src" / package).rglob("*.py") if path.name != "__init__.py"])

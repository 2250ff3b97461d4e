"""The links of all documents, and what the document about Kubernetes says of the manifests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aisandbox_operator.run_keys import INSTALLATION
from manifests import DEPLOY, Manifests, without_hash

ROOT = DEPLOY.parent
TEXT = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")


DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_document_links_to_existing_files(document: Path) -> None:
    links = re.findall(r"\]\(((?!https?:|#)[^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_document_names_existing_paths() -> None:
    paths = set(re.findall(r"(?<![\w/])deploy/[\w./-]*\w", TEXT))
    assert len(paths) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_document_names_existing_objects() -> None:
    names = [each["metadata"]["name"] for each in Manifests.of("overlays/production").objects]
    installed = {*names, *map(without_hash, names), INSTALLATION}  # the last one is made by the operator
    named = set(re.findall(r"\baisandbox-[a-z-]*[a-z]\b", TEXT))
    assert len(named) > 4
    assert named - installed == set()


@pytest.mark.parametrize("label", ["aisandbox.dev/client", "aisandbox.dev/metrics", "aisandbox.dev/simulator"])
def test_document_explains_the_labels_that_open_the_network(label: str) -> None:
    assert label in TEXT
    assert label in (DEPLOY / "base" / "network.yaml").read_text(encoding="utf-8")


def test_document_names_the_settings_of_each_config_map() -> None:
    rows = dict(re.findall(r"^\| `(aisandbox-[a-z]+)` \| (.*) \|$", TEXT.partition("### Settings")[2], re.M))
    told = {name: set(re.findall(r"`([A-Z_]+)`", row)) for name, row in rows.items()}
    assert told == {
        without_hash(each["metadata"]["name"]): set(each["data"])
        for each in Manifests.of("overlays/production").all("ConfigMap")
    }

"""What other packages import."""

from __future__ import annotations

import subprocess
import sys

import aisandbox_wire
import pytest


def test_every_public_name_can_be_imported() -> None:
    assert set(aisandbox_wire._MODULES) == set(aisandbox_wire.__all__)
    for name in aisandbox_wire.__all__:
        assert getattr(aisandbox_wire, name) is not None
    assert set(aisandbox_wire.__all__) <= set(dir(aisandbox_wire))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'aisandbox_wire' has no attribute 'Nothing'"):
        _ = aisandbox_wire.Nothing


def test_import_is_light() -> None:
    program = "import sys, aisandbox_wire; print({'grpc', 'numpy', 'gymnasium', 'google'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"

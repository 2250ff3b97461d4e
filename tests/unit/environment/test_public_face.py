"""What simulator authors import, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import aisandbox_environment
import pytest
from aisandbox_environment import errors


def test_every_public_name_can_be_imported() -> None:
    assert set(aisandbox_environment._MODULES) == set(aisandbox_environment.__all__)
    for name in aisandbox_environment.__all__:
        assert getattr(aisandbox_environment, name) is not None
    assert set(aisandbox_environment.__all__) <= set(dir(aisandbox_environment))


def test_every_error_is_public() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined <= set(aisandbox_environment.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'aisandbox_environment' has no attribute 'Nothing'"):
        _ = aisandbox_environment.Nothing


def test_import_is_light() -> None:
    program = "import sys, aisandbox_environment; print({'grpc', 'numpy', 'gymnasium', 'google'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"

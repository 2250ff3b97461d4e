from __future__ import annotations

import subprocess
import sys

import aisandbox_inference
import pytest


def test_every_public_name_can_be_imported() -> None:
    assert sorted(aisandbox_inference._MODULES) == sorted(aisandbox_inference.__all__)
    for name in aisandbox_inference.__all__:
        assert getattr(aisandbox_inference, name).__module__.startswith("aisandbox_inference.")


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = aisandbox_inference.Nothing


def test_import_is_light() -> None:
    program = "import sys, aisandbox_inference; print({'grpc', 'numpy', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"

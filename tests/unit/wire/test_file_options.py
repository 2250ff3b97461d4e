"""Where the code that other languages generate is: their imports break when one of these options changes."""

from __future__ import annotations

from importlib import import_module

import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from members import ROOT

FILES = sorted(path.stem for path in (ROOT / "proto/aisandbox/v1").glob("*.proto"))


@pytest.mark.parametrize("name", FILES)
def test_file_options_keep_the_places_of_generated_code(name: str) -> None:
    file: FileDescriptor = import_module(f"aisandbox.v1.{name}_pb2").DESCRIPTOR
    described = FileDescriptorProto()
    file.CopyToProto(described)
    options = {field.name: value for field, value in described.options.ListFields()}
    assert options == {
        "csharp_namespace": "AISandbox.V1",
        "go_package": "aisandbox.dev/aisandbox/v1;aisandboxv1",
        "java_multiple_files": True,
        "java_outer_classname": name.title().replace("_", "") + "Proto",
        "java_package": "dev.aisandbox.v1",
    }

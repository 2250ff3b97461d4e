"""Server reflection in both of its versions, v1 and v1alpha, with which `grpcurl` and others list a server's services.

grpcio-reflection serves v1alpha only, and newer clients ask for v1 first, or only. The messages of both are the same
bytes; only the package has another name. Needs the extra ``aisandbox-process[grpc]``. Must not know any service.

Source: github.com/grpc/grpc, src/proto/grpc/reflection/v1/reflection.proto and .../v1alpha/reflection.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

_FILE = "grpc/reflection/v1/reflection.proto"
_OLD_PACKAGE = reflection.SERVICE_NAME.rpartition(".")[0]
_PACKAGE = _OLD_PACKAGE.removesuffix("alpha")
_METHOD = "ServerReflectionInfo"

REFLECTION_V1 = f"{_PACKAGE}.ServerReflection"
"""The full name of the service. A handler of v1alpha's serves it too."""


def enable_reflection(server: grpc.Server, services: Sequence[str]) -> None:
    """Lets ``server``, which is not started, say what ``services`` (full names) are, and reflection itself."""
    names = reflected_names(services)
    reflection.enable_server_reflection(names, server)
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.ReflectionServicer(names).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {_METHOD: handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(REFLECTION_V1, methods),))


def reflected_names(services: Sequence[str]) -> tuple[str, ...]:
    """``services`` and both versions of reflection, each of which can then be described by its name."""
    _add_descriptor()
    return (*services, reflection.SERVICE_NAME, REFLECTION_V1)


def _add_descriptor() -> None:
    """Makes v1 known to the pool of descriptors, for clients that describe every service: v1alpha's, renamed."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_FILE)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        file.name, file.package = _FILE, _PACKAGE
        fields: list[Any] = [field for message in file.message_type for field in message.field]
        for field in [each for each in fields if each.type_name]:  # those of scalar types have none
            field.type_name = field.type_name.replace(f".{_OLD_PACKAGE}.", f".{_PACKAGE}.")
        for method in file.service[0].method:
            method.input_type = method.input_type.replace(f".{_OLD_PACKAGE}.", f".{_PACKAGE}.")
            method.output_type = method.output_type.replace(f".{_OLD_PACKAGE}.", f".{_PACKAGE}.")
        pool.AddSerializedFile(file.SerializeToString())

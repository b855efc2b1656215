"""Protocol buffers of Caffe, TensorFlow and ONNX as Google's library writes them, from their published descriptions."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

F = descriptor_pb2.FieldDescriptorProto
TYPES = {
    "int32": F.TYPE_INT32,
    "int64": F.TYPE_INT64,
    "float": F.TYPE_FLOAT,
    "double": F.TYPE_DOUBLE,
    "string": F.TYPE_STRING,
    "bytes": F.TYPE_BYTES,
    "fixed32": F.TYPE_FIXED32,
}


def classes(package: str, text: str) -> dict[str, Any]:
    """Classes of the messages, one a line: "Net: name string 1, layer Layer* 100"; * is repeated, + also packed."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    lines = [line.strip() for line in text.strip().splitlines()]
    for line in lines:
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for field in fields.split(","):
            label, kind, number = field.split()
            bare = kind.rstrip("*+")
            it = message.field.add(name=label, number=int(number))
            it.label = F.LABEL_OPTIONAL if bare == kind else F.LABEL_REPEATED
            it.type = TYPES.get(bare, F.TYPE_MESSAGE)
            if bare not in TYPES:
                it.type_name = f".{package}.{bare}"
            it.options.packed = kind.endswith("+")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    names = [line.partition(":")[0] for line in lines]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in names}

"""A network as an ONNX graph, by torch's exporter: float32 images (n, C, H, W) in, logits (n, classes) out, any n."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..files.atomic import replacing
from ..layers import Shape, eval_mode

IMAGES, LOGITS = "images", "logits"  # the graph's input and output
MOST_BYTES = 2**31 - 1  # protobuf's limit for a file
EXAMPLES = 2  # a batch of one would be taken for a constant


def export_onnx(net: nn.Module, input: Shape, file: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the network, in evaluation mode, as one ONNX file without others beside it.

    Raises UserError for a network of 2 GB or more, for a missing library and for a file that cannot be written.
    """
    write_onnx(onnx_program(net, torch.zeros(EXAMPLES, *input)), Path(file), metadata or {})


def onnx_program(net: nn.Module, x: torch.Tensor) -> Any:
    """The network as torch's ONNXProgram, for any number of images such as those of `x`."""
    needed("onnx", "onnxscript")
    weight = sum(t.numel() * t.element_size() for t in net.state_dict().values())
    if weight >= MOST_BYTES:
        raise UserError(f"the network has {weight / 2**30:.1f} GB of weights", "an ONNX file holds less than 2 GB")
    if any(t.device.type != "cpu" for t in net.state_dict().values()):
        net = deepcopy(net).cpu()
    with eval_mode(net), torch.no_grad(), quiet():
        return torch.onnx.export(
            net,
            (x,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            input_names=[IMAGES],
            output_names=[LOGITS],
            verbose=False,
        )


def write_onnx(program: Any, file: Path, metadata: Mapping[str, str]) -> None:
    """Writes the program, with the metadata in the file's `metadata_props`."""
    graph = program.model.graph
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph.all_nodes():
        values += node.outputs
        node.doc_string = None
    for noted in (graph, *values, *graph.all_nodes()):  # where in which source file each comes from
        noted.metadata_props.clear()
    program.model.metadata_props.update(metadata)
    with replacing(file) as new:
        program.save(str(new), external_data=False)


def needed(*libraries: str) -> None:
    """Raises UserError for a library of the extra `deploy` that is not installed."""
    for name in libraries:
        if find_spec(name) is None:
            raise UserError(f"exporting a network needs {name}", "pip install 'convatlas[deploy]'")


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter says of torch's and its own inner workings."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        log.setLevel(level)

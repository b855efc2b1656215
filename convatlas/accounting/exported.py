"""How large a network is as an ONNX file in float32: its weights as the exporter writes them, and its graph.

A batch norm after a convolution becomes part of it: of its four numbers a channel one is left, the bias. What the graph
takes beside the weights depends on names and operators; it is told from the layers, in bytes that were fitted to
exported files, and is a hundredth of a file of 1 MB.
"""

from __future__ import annotations

from .rows import Account

FLOAT32 = 4  # bytes
NORM = "BatchNorm2d"
NODE, LAYER, LETTER, OWN_NORM = 130, 210, 5, 490  # bytes: of a node, of a layer with weights, of its name, of a norm


def exported_bytes(counts: Account) -> int:
    """Of the network as `convatlas export --to onnx` writes it, within 0.2% of 23 files of more than 1 MB."""
    folded, channels, own, graph = 0, 0, 0, 0
    before = None
    for row in counts.rows:
        if row.op == NORM and before is not None and before.macs and before.shape == row.shape:
            folded, channels = folded + 1, channels + row.shape[0]
        else:
            own += row.op == NORM
        if row.macs:
            graph += LAYER + LETTER * len(row.path)
        before = row
    graph += NODE * (len(counts.rows) - folded) + OWN_NORM * own
    values = counts.totals.params + counts.statistics - 3 * channels
    return FLOAT32 * values + graph

"""What an exported file says of itself: plain text by key, in ONNX's metadata_props, OpenVINO's rt_info, torch's files.

`network` and `options` (the catalogue's), `preprocess` and `classes` (JSON), `images` (how they go in), `source` and
`licence` of the weights, and `convatlas`, the version that wrote the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..checked import accepts
from ..errors import UserError
from ..preprocess import Preprocess
from ..version import VERSION
from ..weights.convert import licence_of, source_of
from ..weights.model import Model

Images = Literal["float32 NCHW", "uint8 NHWC"]
NORMALISED: Images = "float32 NCHW"  # prepared as `preprocess` says
PIXELS: Images = "uint8 NHWC"  # RGB or grey, of the network's size: normalisation is inside


@dataclass(frozen=True)
class About:
    """What a file of ours says."""

    network: str
    preprocess: Preprocess
    classes: tuple[str, ...]
    images: Images
    source: str


def of_model(model: Model, images: Images) -> dict[str, str]:
    return {
        "convatlas": VERSION,
        "network": model.network,
        "options": json.dumps(dict(model.options)),
        "preprocess": json.dumps(model.preprocess.to_json()),
        "classes": json.dumps(list(model.classes)),
        "images": images,
        "source": source_of(model),
        "licence": licence_of(model),
    }


def read(metadata: Mapping[str, str], file: Path) -> About | None:
    """What the metadata of a file say; None if convatlas has not written it. Raises UserError for damaged ones."""
    if "convatlas" not in metadata:
        return None
    try:
        preprocess = Preprocess.from_json(json.loads(metadata["preprocess"]))
        classes, images = tuple(json.loads(metadata["classes"])), metadata["images"]
        if not accepts(classes, tuple[str, ...]) or images not in (NORMALISED, PIXELS):
            raise ValueError("classes are names")
        return About(metadata["network"], preprocess, classes, images, metadata["source"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the metadata of {file} are damaged", "export the network again") from error

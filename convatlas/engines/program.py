"""The short program that is written beside an exported file: it ranks the classes of images with that file.

It needs the engine, numpy and Pillow, and nothing of convatlas; it shows to whoever writes the real program how images
are prepared, and is meant for ordinary photographs (`convatlas predict` knows the unusual ones).
"""

from __future__ import annotations

from pathlib import Path

from ..preprocess import Preprocess
from .metadata import PIXELS, Images

ENGINE = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
OPENED = {
    "onnx": """\
session = onnxruntime.InferenceSession(FILE)
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])""",
    "openvino": """\
core = openvino.Core()
model = core.read_model(FILE)
classes = json.loads(model.get_rt_info(["convatlas", "classes"]).value)
compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})""",
    "torch": """\
extra = {"metadata.json": ""}
net = torch.export.load(FILE, extra_files=extra).module()
classes = json.loads(json.loads(extra["metadata.json"])["classes"])""",
}
RUN = {
    "onnx": "logits = session.run(None, {NAME: x})[0][0]",
    "openvino": "logits = compiled([x])[0][0]",
    "torch": "logits = net(torch.from_numpy(x))[0].detach().numpy()",
}


def program(file: Path, to: str, preprocess: Preprocess, images: Images, input_name: str) -> str:
    """The Python source, for a file of the format `to` whose input takes `images`."""
    lines = [
        f'"""Ranks the classes of images with {file.name}: python {file.name}.py IMAGE ..."""',
        "",
        "import json",
        "import sys",
        "from pathlib import Path",
        "",
        "import numpy as np",
        *sorted([f"import {ENGINE[to]}", "from PIL import Image, ImageOps"], key=lambda line: line.split()[1].lower()),
        "",
        *OPENED[to].replace("FILE", 'Path(__file__).with_suffix("")').splitlines(),
        "for name in sys.argv[1:]:",
        *(f"    {line}" for line in sized(preprocess)),
        *(f"    {line}" for line in fed(preprocess, images)),
        f"    {RUN[to].replace('NAME', repr(input_name))}",
        "    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()",
        "    for i in np.argsort(-logits)[:5]:",
        '        print(name, f"{probabilities[i]:.4f}", classes[i])',
    ]
    return "\n".join(lines) + "\n"


def sized(preprocess: Preprocess) -> list[str]:
    """The image, brought to the network's size as data/pixels.py does it."""
    channels, height, width = preprocess.input
    mode = "RGB" if channels == 3 else "L"
    scaling = f"Image.Resampling.{preprocess.interpolation.upper()}"
    lines = [f'image = ImageOps.exif_transpose(Image.open(name)).convert("{mode}")']
    if preprocess.resize_mode == "stretch":
        side = preprocess.resize
        lines.append(f"image = image.resize({(side, side) if side else (width, height)}, {scaling})")
        if not side or (side, side) == (width, height):
            return lines
    elif preprocess.resize_mode == "crop":
        short = preprocess.resize or max(height, width)
        lines += [
            "short = min(image.size)",
            f"image = image.resize([side * {short} // short for side in image.size], {scaling})",
        ]
    else:
        lines += [
            f"shrink = min({width} / image.width, {height} / image.height, 1)",
            f"image = image.resize([max(round(side * shrink), 1) for side in image.size], {scaling})",
            f'whole = Image.new("{mode}", {(width, height)}, {(preprocess.background,) * channels})',
            f"whole.paste(image, (-round((image.width - {width}) / 2), -round((image.height - {height}) / 2)))",
            "image = whole",
        ]
        return lines
    return [
        *lines,
        f"left, top = round((image.width - {width}) / 2), round((image.height - {height}) / 2)",
        f"image = image.crop((left, top, left + {width}, top + {height}))",
    ]


def fed(preprocess: Preprocess, images: Images) -> list[str]:
    """The network's input, a batch of one."""
    channels, height, width = preprocess.input
    if images == PIXELS:
        return [f"x = np.array(image).reshape(1, {height}, {width}, {channels})"]
    turned = "[..., ::-1]" if preprocess.order == "BGR" and channels == 3 else ""
    mean, std = (f"np.float32({list(values)})" for values in (preprocess.mean, preprocess.std))
    return [
        f"pixels = np.array(image, np.float32).reshape(1, {height}, {width}, {channels}){turned}",
        f"x = (pixels / {preprocess.scale:g} - {mean}) / {std}",
        "x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))",
    ]

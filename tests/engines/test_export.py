"""A model as a file: checked before it is there, with all that it needs in it, and a program that uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from PIL import Image

from convatlas.catalogue import find
from convatlas.cli import main
from convatlas.data.decode.reference import read_image
from convatlas.data.normalise import Normalizer, measured_shapes, normalise
from convatlas.data.pixels import to_input_size
from convatlas.engines import export as exporting
from convatlas.engines import parity
from convatlas.engines.export import SUFFIXES, export, untrained
from convatlas.engines.from_pixels import FromPixels, as_pixels
from convatlas.engines.metadata import NORMALISED, PIXELS
from convatlas.engines.onnx_model import opened
from convatlas.engines.program import fed, sized
from convatlas.errors import UserError
from convatlas.evaluation.predictions import predict
from convatlas.preprocess import Preprocess
from convatlas.weights.match import load_weights
from convatlas.weights.model import Model, load

GOLDEN = Path(__file__).parents[1] / "goldens" / "run"
COLOUR = Preprocess((3, 20, 24), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


@pytest.fixture(scope="module")
def model() -> Model:
    return load(GOLDEN)


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden run exported to each format, to OpenVINO from pixels."""
    here = tmp_path_factory.mktemp("exported")
    for to, suffix in SUFFIXES.items():
        made = export(model, to, here / f"net{suffix}", uint8=to == "openvino")
        assert made.difference <= 1e-5
        assert {file.name for file in made.files} <= {file.name for file in here.iterdir()}
    return here


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    here, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, size in (("wide.png", (41, 23)), ("tall.png", (19, 50)), ("small.png", (9, 7))):
        coarse = Image.fromarray(random.integers(0, 256, (6, 5, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(here / name)
    return sorted(here.iterdir())


def metadata(file: Path) -> dict[str, str]:
    """As a user of the engine reads them."""
    if file.suffix == ".onnx":
        return dict(onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map)
    if file.suffix == ".xml":
        read = openvino.Core().read_model(file).get_rt_info
        return {key: read(["convatlas", key]).value for key in ("network", "preprocess", "classes", "images", "source")}
    extra = {"metadata.json": ""}
    torch.export.load(file, extra_files=extra)
    return dict(json.loads(extra["metadata.json"]))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_files_say_what_they_are(model: Model, folder: Path) -> None:
    for name, images in (("net.onnx", NORMALISED), ("net.xml", PIXELS), ("net.pt2", NORMALISED)):
        found = metadata(folder / name)
        assert Preprocess.from_json(json.loads(found["preprocess"])) == model.preprocess
        assert json.loads(found["classes"]) == list(model.classes)
        assert (found["network"], found["images"], found["source"]) == ("chain_n1_m1_k0", images, "best.safetensors")
        content = b"".join(file.read_bytes() for file in folder.glob(f"{Path(name).stem}.*"))
        assert str(Path.cwd()).encode() not in content
        card = (folder / f"{name}.md").read_text()
        assert f"# {name}" in card
        assert images.split()[0] in card


@pytest.mark.parametrize("name", ["net.onnx", "net.xml", pytest.param("net.pt2", marks=pytest.mark.slow)])
def test_the_program_ranks_as_predict_does(name: str, model: Model, folder: Path, photos: list[Path]) -> None:
    printed = ran(folder / f"{name}.py", photos)
    for i, one in enumerate(predict(model, photos, top=5)):
        lines = [line.split() for line in printed[5 * i : 5 * i + 5]]
        assert [line[2] for line in lines] == [label for label, _ in one.ranked]
        assert [float(line[1]) for line in lines] == pytest.approx([p for _, p in one.ranked], abs=1e-4)


def ran(program: Path, photos: list[Path]) -> list[str]:
    """What the program prints; nothing of this package is on its path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-P", program.name, *map(str, photos)]
    done = subprocess.run(command, cwd=program.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


PREPARED = [
    COLOUR,
    replace(COLOUR, resize=30, interpolation="bicubic"),
    replace(COLOUR, resize_mode="crop", resize=28),
    replace(COLOUR, resize_mode="crop", order="BGR", scale=1.0, std=(1.0, 1.0, 1.0), mean=(104.0, 117.0, 123.0)),
    replace(COLOUR, resize_mode="pad", background=114),
    Preprocess((1, 20, 20), (0.3,), (0.4,), resize_mode="pad", interpolation="nearest"),
    Preprocess((1, 21, 21), (0.5,), (0.5,), resize_mode="crop"),
]


@pytest.mark.parametrize("preprocess", PREPARED)
def test_the_program_prepares_images_as_we_do(preprocess: Preprocess, photos: list[Path]) -> None:
    normalizer = Normalizer(preprocess)
    for photo in photos:
        image = to_input_size(read_image(photo, preprocess.input[0])[None], preprocess)
        for images, expected in ((NORMALISED, normalise(image, normalizer)), (PIXELS, as_pixels(image, normalizer))):
            known: dict[str, Any] = {"name": photo}
            lines = [
                "import numpy as np",
                "from PIL import Image, ImageOps",
                *sized(preprocess),
                *fed(preprocess, images),
            ]
            exec("\n".join(lines), known)
            assert known["x"].dtype == expected.numpy().dtype
            np.testing.assert_allclose(known["x"], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("whiten", ["channel", "mean", "pixel", "gcn_zca"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_normalisation_inside_is_the_one_outside(whiten: Any, order: Any) -> None:
    preprocess = Preprocess((3, 6, 5), (10.0, 20.0, 30.0), (1.0, 2.0, 3.0), scale=2.0, whiten=whiten, order=order)
    random = torch.Generator().manual_seed(0)
    tensors = {k: torch.rand(v, generator=random) for k, v in measured_shapes(preprocess).items()}
    normalizer = Normalizer(preprocess, tensors)
    images = torch.randint(0, 256, (4, 3, 6, 5), dtype=torch.uint8, generator=random)
    inside = FromPixels(torch.nn.Identity(), normalizer)(as_pixels(images, normalizer))
    torch.testing.assert_close(inside, normalise(images, normalizer), rtol=1e-5, atol=1e-4)


def test_whitening_goes_into_the_file_or_is_refused(model: Model, tmp_path: Path) -> None:
    preprocess = replace(model.preprocess, whiten="gcn_zca", mean=(0.0,), std=(1.0,))
    random = torch.Generator().manual_seed(0)
    tensors = {k: 0.2 * torch.randn(v, generator=random) for k, v in measured_shapes(preprocess).items()}
    whitened = replace(model, normalizer=Normalizer(preprocess, tensors))
    with pytest.raises(UserError, match=r"whitened \(whiten=gcn_zca\) by what was measured .*; give --uint8"):
        export(whitened, "onnx", tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    export(whitened, "onnx", tmp_path / "net.onnx", uint8=True)
    images = parity.images((1, 8, 8), 5)
    expected = parity.of_net(whitened.net, whitened.normalizer)(images)
    file = opened(tmp_path / "net.onnx")
    torch.testing.assert_close(parity.of_net(file.net, file.normalizer)(images), expected, rtol=1e-4, atol=1e-4)


def test_a_file_that_computes_something_else_is_not_left(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = deepcopy(model.net)
    wrong.load_state_dict({name: tensor * 1.001 for name, tensor in model.net.state_dict().items()})
    write = exporting.write_torch
    monkeypatch.setitem(exporting.WRITERS, "torch", lambda net, *others: write(wrong, *others))
    (tmp_path / "net.pt2").write_bytes(b"what was there")
    with pytest.raises(parity.Unlike, match=r"differs from the original by 0\.00\d+ standard deviations.*nothing was"):
        export(model, "torch", tmp_path / "net.pt2")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("net.pt2", b"what was there")]


def test_what_cannot_be_checked_is_not_exported(model: Model, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = find("lenet5").build().eval()
    preprocess = Preprocess((1, 32, 32), (0.5,), (0.5,))
    with pytest.raises(UserError, match=r"the logits of lenet5 are all but constant .*; give trained weights"):
        export(
            replace(model, net=fresh, normalizer=Normalizer(preprocess), network="lenet5"), "torch", tmp_path / "a.pt2"
        )
    assert not list(tmp_path.iterdir())


def test_what_is_asked_for_wrongly_is_one_line(model: Model, folder: Path, tmp_path: Path) -> None:
    for to, name, message in (
        ("onnx", "net.xml", r"net\.xml does not end in \.onnx"),
        ("torch", "none/net.pt2", r"there is no folder .*none for net\.pt2; create it first"),
        ("onx", "net.onnx", "no format named 'onx'; did you mean onnx"),
    ):
        with pytest.raises(UserError, match=message):
            export(model, to, tmp_path / name)
    with pytest.raises(UserError, match="runs on onnxruntime, and cannot be exported; give the original"):
        export(opened(folder / "net.onnx"), "torch", tmp_path / "net.pt2")


def test_a_network_without_weights_is_exported_for_timing(tmp_path: Path) -> None:
    made = export(untrained("chain_n1_m1_k0"), "torch", tmp_path / "net.pt2")
    assert made.difference <= parity.TOLERANCE
    assert "random weights" in (tmp_path / "net.pt2.md").read_text()


@pytest.mark.parametrize("name", ["resnet20", pytest.param("wrn40_1", marks=pytest.mark.slow)])
def test_an_exported_file_is_a_weights_file_as_well(name: str, tmp_path: Path) -> None:
    """Batch norms after a convolution are folded into it by then; those before one are not."""
    model, net = untrained(name), find(name).build().eval()
    export(model, "onnx", tmp_path / "net.onnx", uint8=True)
    load_weights(tmp_path / "net.onnx", net)
    run = parity.of_net(net, model.normalizer)
    images = parity.images(model.preprocess.input)
    assert parity.check(parity.of_net(model.net, model.normalizer), run, images, name) <= 1e-5


def test_the_verbs(folder: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """export writes; predict, evaluate and show take the file, and say what they say of the run."""
    out = tmp_path / "net.pt2"
    assert main(["export", str(GOLDEN), "--to", "torch", "-o", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["files"] == [str(out), f"{out}.md", f"{out}.py"]
    assert record["bytes"] == out.stat().st_size
    assert main(["export", "chain_n1_m1_k0", "--untrained", "--to", "torch", "-o", str(out)]) == 0
    assert "differs from torch by" in capsys.readouterr().out
    ranked, scores = [], []
    for file in (GOLDEN, folder / "net.onnx"):
        assert main(["predict", str(file), *map(str, photos), "--json"]) == 0
        predictions = json.loads(capsys.readouterr().out)["predictions"]
        ranked.append([(it["class"], round(it["probability"], 4)) for one in predictions for it in one["ranked"]])
        assert main(["evaluate", str(file), "--data", "digits", "--json"]) == 0
        scores.append({key: rounded(value) for key, value in json.loads(capsys.readouterr().out).items()})
    assert ranked[0] == ranked[1]
    assert scores[1].pop("model") == str(folder / "net.onnx")
    assert scores[0] == {"model": str(GOLDEN / "best.safetensors"), **scores[1]}
    assert main(["show", str(folder / "net.onnx"), "--json"]) == 0
    macs = json.loads(capsys.readouterr().out)["totals"]["macs"]
    assert main(["show", str(GOLDEN), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["macs"] == macs


def rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lenet5", "--to", "onnx", "-o", "a.onnx"], "give weights, or --untrained for random ones"),
        (["lenet5", "--to", "onnx", "-o", "none/a.onnx"], "there is no folder none for a.onnx; create it first"),
        (
            ["mine", "--untrained", "--to", "onnx", "-o", "a.onnx"],
            "--untrained is for networks of the catalogue, not mine",
        ),
        (["mine", "--to", "onnx", "-o", "a.onnx"], "there is no model mine"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())

"""weights.toml holds what the sources say. The oracles are the metadata that torchvision and timm ship."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from convatlas.catalogue import find
from convatlas.data.names import class_names
from convatlas.errors import UserError
from convatlas.weights import published as module
from convatlas.weights.fetch import DIGEST
from convatlas.weights.published import Published, find_published, published
from tests import oracles

ROWS = published()


def of(source: str) -> list[Published]:
    return [row for row in ROWS.values() if row.source == source]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_each_row_is_whole(row: Published) -> None:
    variant = find(row.network)
    assert row.preprocess.input[0] == variant.input[0]  # type: ignore[index]
    assert not row.digest or DIGEST.fullmatch(row.digest), "fetch would refuse it"
    assert row.url.startswith("https://" if len(row.digest) < 40 else "http")  # a digest in full says what was meant
    assert row.licence
    assert variant.options["classes"] in (len(class_names(row.classes)), len(class_names(row.classes)) - 1)
    for figure in (row.top1, row.top5):
        assert not figure or 40 < float(figure) < 100
    assert bool(row.top1) <= bool(row.protocol)
    assert find_published(row.name) is row


def test_no_two_rows_share_a_file_name() -> None:
    """In the cache, one would be taken for the other."""
    assert len({row.file for row in ROWS.values()}) == len(ROWS)


@pytest.mark.parametrize("kind", ["sha256", "sha1", "md5"])
def test_a_file_is_recognised_in_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    content = bytes(range(256)) * 1000  # several pieces
    row = of("torchvision")[0]
    digests = {it: hashlib.new(it, content if it == kind else b"").hexdigest() for it in ("md5", "sha256", "sha1")}
    rows = {it: replace(row, tag=it, size=None, digest=f"{it}:{digits}") for it, digits in digests.items()}
    (tmp_path / "weights").write_bytes(content)
    readings, opened = [], Path.open

    def noted(path: Path, mode: str = "r") -> IO[Any]:
        readings.append(path.name)
        return opened(path, mode)

    monkeypatch.setattr(module, "published", lambda: rows)
    monkeypatch.setattr(Path, "open", noted)
    assert module.recognised(tmp_path / "weights") == rows[kind]
    assert readings == ["weights"]
    (tmp_path / "weights").write_bytes(content + b"x")
    assert module.recognised(tmp_path / "weights") is None


@pytest.mark.oracles
@pytest.mark.parametrize("row", of("torchvision"), ids=lambda row: row.name)
def test_torchvision(row: Published) -> None:
    weights = oracles.torchvision_models().get_model_weights(row.called)
    theirs = next(w for w in weights if w.url == row.url)
    shown, metrics = theirs.transforms(), theirs.meta["_metrics"]["ImageNet-1K"]
    assert row.url.rpartition("-")[2].startswith(row.digest.removeprefix("sha256:"))
    assert (float(row.top1), float(row.top5)) == (metrics["acc@1"], metrics["acc@5"])
    assert row.preprocess.input[1:] == (shown.crop_size[0],) * 2
    assert row.preprocess.resize == shown.resize_size[0]
    assert row.preprocess.interpolation == shown.interpolation.value
    assert (list(row.preprocess.mean), list(row.preprocess.std)) == (list(shown.mean), list(shown.std))
    words = [re.sub(r"^\S+ ", "", name).split(", ")[0] for name in class_names(row.classes)]
    assert sum(a != b for a, b in zip(words, theirs.meta["categories"], strict=True)) < 10, "another order of classes"


@pytest.mark.oracles
def test_every_network_of_torchvision_that_is_here() -> None:
    models = oracles.torchvision_models()
    families = (
        r"alexnet|vgg|googlenet|inception|resnet|resnext|wide_resnet|squeezenet|densenet|mobilenet_v2|efficientnet_b"
    )
    theirs = {name for name in models.list_models(module=models) if re.match(families, name)}
    assert {row.called for row in of("torchvision")} == theirs


@pytest.mark.oracles
@pytest.mark.parametrize("row", of("timm"), ids=lambda row: row.name)
def test_timm(row: Published) -> None:
    theirs = oracles.timm().get_pretrained_cfg(f"{row.called}.{row.tag}")
    assert row.url == theirs.url or theirs.hf_hub_id in row.url
    assert row.licence.lower() == theirs.license
    assert row.preprocess.input == theirs.input_size
    assert row.preprocess.resize == math.floor(theirs.input_size[1] / theirs.crop_pct)
    assert row.preprocess.interpolation == theirs.interpolation
    assert (row.preprocess.mean, row.preprocess.std) == (theirs.mean, theirs.std)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("resnet20@akamaster", "resnet20@akamaster"),
        ("ResNet-20@akamaster", "resnet20@akamaster"),
        ("resnet50@torchvision/v1", "resnet50_v1_5@torchvision/v1"),  # what torchvision calls so
        ("resnet50_v1_5@torchvision/v2", "resnet50_v1_5@torchvision/v2"),
        ("efficientnet_lite0@pypi", "efficientnet_lite0@pypi"),
        ("efficientnet_lite0", "efficientnet_lite0@pypi"),  # a package has it, though timm has it too
        ("tf_efficientnet_lite0@timm", "efficientnet_lite0@timm/in1k"),
        ("efficientnet_lite0@timm/ra_in1k", "efficientnet_lite0_symmetric@timm/ra_in1k"),  # what timm calls so
        ("ResNet50@keras", "resnet50@keras"),
        ("tf_efficientnet_b0@timm/ns_jft_in1k", "efficientnet_b0@timm/ns_jft_in1k"),
    ],
)
def test_names(name: str, found: str) -> None:
    assert find_published(name).name == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50@torchvisoin", "no source of weights named 'torchvisoin'; did you mean torchvision"),
        ("resnet50@torchvision", "there are several weights 'resnet50@torchvision'; give .*/v1 or .*/v2"),
        ("resnet50@torchvision/v3", "no weights of resnet50@torchvision named 'v3'; choose from v1, v2"),
        ("resnet5O@torchvision/v1", "no network named 'resnet5O'; did you mean .*resnet50"),
        ("fractalnet_20@timm", "no published weights 'fractalnet_20@timm' are known"),
    ],
)
def test_names_that_are_none(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_published(name)


def test_classes() -> None:
    names = class_names("imagenet")
    assert len(names) == 1000
    assert [name.split()[0] for name in names] == sorted(name.split()[0] for name in names)
    assert class_names("imagenet_background")[:2] == ("background", names[0])
    assert class_names("cifar10")[3] == "cat"


def test_a_librarys_name_is_found_as_the_row_that_it_is_or_as_the_papers_of_that_name() -> None:
    """A bare name stays the paper's: torchvision's resnet50 is resnet50_v1_5, and is found by resnet50@torchvision."""
    for row in published().values():
        found = find(row.called).name
        assert found == row.network or row.network.startswith(found) or row.called == "inception_v2", row

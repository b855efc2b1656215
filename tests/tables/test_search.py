"""Searching the catalogue without torch, and the one accuracy that stands for a network on a data set."""

import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest

from convatlas.errors import UserError
from convatlas.tables import index, load
from convatlas.tables.published import DATASETS, published
from convatlas.tables.search import names, search


def entry(*claims: tuple[str, str, str], side: int = 224) -> dict[str, Any]:
    made = [dict(zip(("what", "printed", "where"), claim, strict=True)) for claim in claims]
    return {"input": [3, side, side], "claims": made}


def test_names() -> None:
    assert names() == list(index())
    assert names("vgg1*", family="vgg")[:3] == ["vgg11", "vgg11_lrn", "vgg13"]
    assert names(limits=["params<=1M", "year<2015"]) == [
        n for n, r in index().items() if r["totals"]["params"] <= 1e6 and r["paper"]["year"] < 2015
    ]
    assert names("ResNet-50", family="resnet")[0] == "resnet50"
    with pytest.raises(UserError, match="no network matches 'zzz' in family vgg; `convatlas list` shows them all"):
        names("zzz", family="vgg")
    with pytest.raises(UserError, match="no family named 'vggs'; did you mean vgg"):
        names(family="vggs")


def test_the_quantities_are_those_of_the_counts() -> None:
    for found in search("alexnet"):
        counts = load(found.entry["name"])
        assert found.quantities["params"] == counts.totals.params
        assert found.quantities["bytes"] == 4 * counts.totals.params
        assert found.quantities["training_macs"] == counts.totals.training_macs
        assert found.quantities["depth"] == counts.depth
        assert (found.quantities["channels"], found.quantities["side"]) == counts.input[:2]


def test_the_usual_protocol_comes_first() -> None:
    of = published(
        entry(
            ("top1_err", "22.85", "Table 3, 10-crop"),
            ("top1_err", "30", "Table 2"),
            ("top1_err", "24.7", "README, single crop 224"),
            ("top5_err", "7.8", "README, single crop 224"),
            ("top1_err", "20", "Table 5, 7 models, 1 crop"),
        )
    )
    assert of is not None
    assert (of.top1, of.top5, of.usual, of.protocol) == (Decimal("75.3"), Decimal("92.2"), True, "")


@pytest.mark.parametrize(
    ("where", "protocol"),
    [
        ("Table 3, centre crop", ""),
        ("Table 3, 1 model, 1 crop, ILSVRC-2012 val", ""),
        ("Table 3, 1 model(s), 1 crop(s), ILSVRC-2014 val", ""),
        ("Table 5, single crop 320", "single crop 320"),
        ("Table 6", "not stated"),
        ("Table 3, 10-crop", "10-crop"),
        ("VGG (Simonyan and Zisserman, 2014), Table 7, 5 networks, 10-crop, ILSVRC-2012 val", "5 networks, 10-crop"),
        ("Table 3, dense evaluation, S=256, Q=256, ILSVRC-2012 val", "dense evaluation, S=256, Q=256"),
        ("Table 1, ILSVRC-2010 test", "ILSVRC-2010 test"),
    ],
)
def test_protocols_on_imagenet(where: str, protocol: str) -> None:
    of = published(entry(("top1_acc", "75.3", where)))
    assert of is not None
    assert (of.top1, of.protocol, of.usual) == (Decimal("75.3"), protocol, not protocol)


def test_small_images() -> None:
    """The best that is published of a usual network, not of the best run; figures in words are none."""
    claims = entry(
        ("cifar10_err", "6.43", "Table 6, standard augmentation, best of 5"),
        ("cifar10_err", "6.61", "Table 6, standard augmentation, mean of 5"),
        ("cifar10_err", "13.63", "DenseNet (Huang et al., 2016), Table 2, no augmentation"),
        ("cifar100_err", "about 9", "Fig. 6"),
        side=32,
    )
    of = published(claims, "cifar10")
    assert of is not None
    assert (of.top1, of.usual, of.protocol) == (Decimal("93.39"), True, "standard augmentation, mean of 5")
    assert published(index()["airbench94"], "cifar10")[2:4] == (False, "mean of 1,000 runs, 6 views")
    assert published(claims, "cifar100") is None
    assert published(claims) is None
    with pytest.raises(UserError, match="no data set named 'cifar1'; did you mean cifar10"):
        published(claims, "cifar1")


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_figure_of_the_catalogue_is_read(dataset: str) -> None:
    """Whatever is claimed of a data set is an accuracy between 40% and 100%, and lies in a claim."""
    assert any(published(record, dataset) for record in index().values())
    for name, record in index().items():
        claimed = [c for c in record["claims"] if c["what"] in DATASETS[dataset] and c["printed"][0].isdigit()]
        of = published(record, dataset)
        assert (of is None) == (not claimed), name
        if of:
            assert 40 < of.top1 < 100
            assert of.where in [c["where"] for c in claimed]


def test_it_does_without_torch() -> None:
    code = "import sys; from convatlas.tables.search import names; names('vgg'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

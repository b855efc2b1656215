"""What is known of accuracies: against the catalogue, weights.toml, and files in timm's and our own formats."""

import dataclasses
import json
from pathlib import Path

import pytest

from convatlas.choice.facts import CENTER, entering, facts, near, source_of
from convatlas.choice.results import dataset_of, read
from convatlas.errors import UserError
from convatlas.tables import index
from convatlas.tables.published import published as listed
from convatlas.tables.search import search
from convatlas.weights.published import published
from tests import json_goldens

FACTS = facts()
HEADER = "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation\n"
LINES = """resnet50.a1_in1k,224,80.2,19.8,94.6,5.4,25.56,0.875,bicubic
resnet50.a1_in1k,288,81.2,18.8,95.1,4.9,25.56,1.000,bicubic
vit_base_patch16_224.augreg_in21k,224,84.5,15.5,97.2,2.8,"1,086.57",0.9,bicubic
"""


def test_every_published_accuracy_is_a_fact() -> None:
    """Those of the weights, and the one that `list` shows of each network, under its own figures or its source's."""
    found = {fact.weights: fact for fact in FACTS if fact.weights}
    for row in published().values():
        assert (row.name in found) == bool(row.top1)
        if row.top1:
            assert (found[row.name].top1, found[row.name].network) == (float(row.top1), row.network)
            assert found[row.name].name == row.name, "a figure is named as its weights are"
    for dataset in ("imagenet", "cifar10", "cifar100", "svhn", "mnist"):
        for it in search(dataset=dataset):
            if it.published:
                own = [f for f in FACTS if f.network == it.entry["name"] and f.dataset == dataset]
                assert any(near(f.top1, float(it.published.top1)) for f in own), (dataset, it.entry["name"])


def test_what_enters_is_what_lists_call_usual() -> None:
    """A paper's figure enters exactly where `list` gives it no star; and others only when asked."""
    for dataset in ("imagenet", "cifar10", "cifar100"):
        entered = {(f.network, f.top1) for f in entering(FACTS, dataset) if f.kind == "paper"}
        library = {f.network for f in FACTS if f.kind == "library" and f.protocol == CENTER}
        for name, entry in index().items():
            of = listed(entry, dataset)
            if of and of.usual:
                assert (name, float(of.top1)) in entered or name in library, name
            elif of:
                assert not any(network == name for network, _ in entered), name
    center, unstated, every = (entering(FACTS, "imagenet", p) for p in ("center", "unstated", "any"))  # type: ignore[arg-type]
    assert len(center) < len(unstated) < len(every)
    assert all(fact.single for fact in every), "several models are no network"
    assert len({fact.name for fact in every}) == len(every)
    vgg = [f for f in FACTS if f.network == "vgg16" and f.source == "paper"]
    assert vgg
    assert not {f.name for f in vgg} & {f.name for f in center}


def test_no_figure_has_a_bare_name() -> None:
    assert all(fact.source and "@" in fact.name and not set(fact.source) & set(" ,()") for fact in FACTS)
    assert source_of("Identity Mappings (He et al., 2016), Table 5, single crop 320") == "he2016"
    assert source_of("VGG (Simonyan and Zisserman, 2014), Table 7, 1 network, 10-crop") == "simonyan2014"
    assert source_of("Canziani et al. (2016), Fig. 1, read off to a point, centre crop") == "canziani2016"
    assert source_of("Tables 3 and 4, single crop 224") == source_of("section 5, single crop 224") == "paper"
    assert source_of("tf-slim mobilenet README") == "slim"
    assert source_of("fb.resnet.torch README, single crop 224") == "fb.resnet.torch"


def test_weights_of_another_image_size_are_another_protocol() -> None:
    """Their costs are not those of the tables."""
    (b2,) = (f for f in FACTS if f.name == "efficientnet_b2_symmetric@torchvision")
    assert b2.protocol == "single crop 288"
    assert not b2.enters("center")


def test_timms_accuracies(tmp_path: Path) -> None:
    for name, more in (
        ("results-imagenet", 0),
        ("results-imagenet-real", 5),
        ("results-imagenetv2-matched-frequency", -12),
    ):
        lines = [line.split(",", 3) for line in LINES.splitlines()]
        text = "".join(",".join([m, s, f"{float(t) + more}", rest]) + "\n" for m, s, t, rest in lines)
        (tmp_path / f"{name}.csv").write_text(HEADER + text + "resnet50.a1_in1k,224,?,1,2,3,4,5,6\n")
    found, damages = read(sorted(tmp_path.glob("*.csv")))
    assert [(f.dataset, f.top1, f.protocol) for f in found] == [
        ("imagenet-real", 85.2, CENTER),
        ("imagenet-real", 86.2, "single crop 288"),
        ("imagenet", 80.2, CENTER),
        ("imagenet", 81.2, "single crop 288"),
        ("imagenetv2", 68.2, CENTER),
        ("imagenetv2", 69.2, "single crop 288"),
    ]
    assert {(f.name, f.weights) for f in found} == {("resnet50_v1_5@timm/a1_in1k",) * 2}
    assert [d.line for d in damages] == [5, 5, 5], "a line without a number is named"
    assert "resnet50_v1_5@timm/a1_in1k" in {f.name for f in entering(facts(found), "imagenet")}


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("mine.csv", HEADER + LINES, "does not say on which images"),
        ("results-imagenet.csv", HEADER, "has no network of the atlas"),
        ("results-imagenet.csv", HEADER + "vit_x.y,224,1,2,3,4,5,6,7\n", "has no network of the atlas"),
        ("results.jsonl", "x\n", "there are no results in"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, text: str, match: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=match):
        read([tmp_path / name])


def test_measured_accuracies(tmp_path: Path) -> None:
    """Only those that were measured, in fp32; named by the weights, and never as the published figure."""
    line = json.loads(json_goldens.RESULTS.read_text().splitlines()[0])
    accuracy = dict(
        kind="measured", top1=91.5, top5=99.0, n=2000, low=90.2, high=92.6, source="cifar10:x", protocol="center"
    )
    made = line | dict(model="resnet20@akamaster", network="resnet20", input=[3, 32, 32], precision="fp32")
    records = [made | {"accuracy": line["accuracy"] | accuracy}]
    records += [
        records[0] | dict(precision="int8"),
        made | {"accuracy": line["accuracy"] | accuracy | dict(kind="published")},
    ]
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in records))
    found, _ = read([file])
    (fact,) = found
    assert fact.name == "resnet20@measured/akamaster"
    assert (fact.dataset, fact.top1, fact.images, fact.low, fact.weights) == (
        "cifar10",
        91.5,
        2000,
        90.2,
        "resnet20@akamaster",
    )
    names = [f.name for f in entering(facts(found), "cifar10") if f.network == "resnet20"]
    assert {"resnet20@measured/akamaster", "resnet20@akamaster", "resnet20@paper"} <= set(names)
    assert not dataclasses.replace(fact, protocol="flip").enters("center")


def test_the_data_set_of_data() -> None:
    assert dataset_of("cifar10:/data/x") == "cifar10"
    assert dataset_of("/data/cifar-10-batches-py") == "cifar10"
    assert dataset_of("/data/imagenet") == "imagenet"
    assert dataset_of("folder:/data/birds") == "folder:/data/birds"

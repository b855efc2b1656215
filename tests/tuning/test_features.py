"""Features are those of a pass through the network, and are found again by the image, whatever its place or label."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convatlas.data.normalise import Normalizer, normalise
from convatlas.data.sources import load_data
from convatlas.data.types import MemorySplit
from convatlas.errors import UserError
from convatlas.tuning import features as module
from convatlas.tuning.features import features_of, key_of
from tests.trained import digits
from tests.tuning.models import model_of, photos, small


def split(n: int = 40) -> MemorySplit:
    found = digits(train=n).train
    assert isinstance(found, MemorySplit)
    return found


def test_they_are_what_the_classifier_reads() -> None:
    model, images = small(), split()
    found = features_of(model, images)
    read: list[torch.Tensor] = []
    model.net.head.logits.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    with torch.inference_mode():
        model.net(normalise(images.fetch(torch.arange(40), model.preprocess), model.normalizer))
    torch.testing.assert_close(found.values, read[0])
    assert torch.equal(found.labels, images.labels)
    assert found.cached == 0


def test_images_are_found_again_in_any_order_and_with_other_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = small(), split()
    first = features_of(model, images)
    order = torch.randperm(40)
    again = replace(images, images=images.images[order], labels=(images.labels[order] + 1) % 10)
    monkeypatch.setattr(module, "computed", None)  # nothing is computed
    found = features_of(model, again)
    assert torch.equal(found.values, first.values[order])
    assert torch.equal(found.labels, again.labels)
    assert found.cached == 40


def test_only_new_images_are_computed(cache: Path) -> None:
    model = small()
    features_of(model, split(30))
    assert features_of(model, split(40)).cached == 30
    assert len(list(cache.rglob("*.safetensors"))) == 2
    assert features_of(model, split(40)).cached == 40


def test_the_same_picture_twice_is_computed_once(cache: Path) -> None:
    images = split(10)
    twice = replace(images, images=images.images[[0, 0, 1]], labels=images.labels[[0, 1, 2]])
    found = features_of(small(), twice)
    assert torch.equal(found.values[0], found.values[1])
    assert not torch.equal(found.values[0], found.values[2])


def test_other_weights_or_another_preparation_are_other_features() -> None:
    model = small()
    shifted = replace(model, normalizer=Normalizer(replace(model.preprocess, mean=(0.4,))))
    other = small(seed=1)
    classifier = small()
    torch.nn.init.zeros_(classifier.net.head.logits.weight)
    keys = [key_of(it) for it in (model, shifted, other, replace(model, eps={"bn": 0.1}))]
    assert len(set(keys)) == 4
    assert key_of(classifier) == key_of(small()) == keys[0], "the classifier is not among what they depend on"
    features_of(model, split())
    assert features_of(shifted, split()).cached == features_of(other, split()).cached == 0


def test_a_damaged_file_of_the_cache_is_computed_again(cache: Path) -> None:
    model = small()
    first = features_of(model, split())
    (file,) = cache.rglob("*.safetensors")
    whole = bytearray(file.read_bytes())
    whole[-5] ^= 1
    file.write_bytes(whole)
    found = features_of(model, split())
    assert found.cached == 0
    assert torch.equal(found.values, first.values)
    assert features_of(model, split()).cached == 40, "it is replaced"


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "file"))
    found = features_of(small(), split())
    assert found.note.startswith("the features are not kept: ")
    assert len(found.values) == 40


def test_files_are_known_by_their_content(tmp_path: Path) -> None:
    model = model_of("resnet20", {"depth": 8})
    one, two = photos(tmp_path / "one"), photos(tmp_path / "two")
    (two / "dark" / "0.png").rename(two / "bright" / "moved.png")
    first = features_of(model, load_data(str(one), val=0.0).train)
    again = features_of(model, load_data(str(two), val=0.0).train)
    assert first.values.shape[1] == 64
    assert again.cached >= len(again.labels) - 2, "all but those that were test images in the first"


def test_features_that_are_not_finite_are_refused() -> None:
    model = small()
    model.net.stem.conv1.weight.data.fill_(float("inf"))
    with pytest.raises(UserError, match="the features of chain_n1_m2_k1 are not finite; its training diverged"):
        features_of(model, split())


def test_the_maps_of_squeezenet_are_averaged_before_its_classifier() -> None:
    model = model_of("squeezenet1_0", {"fires": [("fire2", 4, 8, 8)], "pools": ()})
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    found = features_of(model, MemorySplit("train", images, torch.zeros(5, dtype=torch.int64), ("a", "b")))
    with torch.inference_mode():
        maps = model.net.features(normalise(images, model.normalizer))[-1]
    torch.testing.assert_close(found.values, maps.mean((2, 3)))

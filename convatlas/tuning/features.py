"""Features: what a network's classifier reads of each image, kept by (weights, preprocessing, the image's digest).

The cache is the folder features/ of CONVATLAS_CACHE. Each computation adds a file to it, and none is ever changed, so
that processes need not wait for each other; images that were moved, renamed or relabelled are found again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.augment import augment, crops_of
from ..data.loading import fetched
from ..data.normalise import normalise
from ..data.types import Split
from ..errors import UserError, unread
from ..files.plain import utf8
from ..layers import ConvNet, eval_mode
from ..runs import checkpoint
from ..weights.cache import cache
from ..weights.model import Model

Progress = Callable[[Sequence[int]], Iterable[int]]
BATCH = 32  # images at a time


@dataclass(frozen=True)
class Features:
    """What the classifier reads of each image of a split."""

    values: Tensor  # float32 (N, F)
    labels: Tensor  # int64 (N,)
    cached: int  # how many were in the cache
    note: str = ""  # why they are not in the cache now


def features_of(
    model: Model,
    split: Split,
    *,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: Progress = iter,
) -> Features:
    """The features of a split by the model, in eval mode, from the cache where they are there.

    They are the numbers that the last linear layer reads: of AlexNet and VGG the output of fc7; of others the last
    maps, averaged. `progress` wraps the numbers of the batches. Raises UserError for a network that is not a ConvNet,
    and for features that are not finite.
    """
    if not isinstance(model.net, ConvNet):
        raise UserError(f"{model.network} is not a ConvNet, so its features are not known", "give one of the catalogue")
    folder = cache().with_name("features") / key_of(model)
    digests = [digest_of(size, split.stored(i)) for i, size in enumerate(split.sizes().tolist())]
    known = remembered(folder, set(digests))
    first = {digest: i for i, digest in reversed(list(enumerate(digests))) if digest not in known}
    missing = sorted(first.values())  # each picture once
    note = ""
    if missing:
        found = computed(model, split, missing, device, workers, progress)
        known |= {digests[i]: row for i, row in zip(missing, found, strict=True)}
        note = kept(folder, [digests[i] for i in missing], found)
    labels = torch.as_tensor(split.labels, device="cpu")
    values = torch.stack([known[digest] for digest in digests]) if digests else torch.zeros(0, 0)
    return Features(values, labels, len(split) - len(missing), note)


def key_of(model: Model) -> str:
    """What the features of an image depend on but the image: the network, its weights without classifiers, and how it
    is fed."""
    assert isinstance(model.net, ConvNet)
    final = tuple(f"{path}." for path in model.net.logits_layers)
    options = {name: value for name, value in model.options.items() if name not in ("classes", "channels", "input")}
    about = [model.network, options, dict(model.eps), model.preprocess.to_json()]
    weights = {name: t.detach().cpu() for name, t in model.net.state_dict().items() if not name.startswith(final)}
    return checkpoint.digest(json.dumps(about, sort_keys=True, default=str), weights | model.normalizer.tensors)


def digest_of(size: Sequence[int], stored: Any) -> bytes:
    """SHA-256 of an image as it is stored, and of its size."""
    whole = hashlib.sha256(utf8(f"{size}\n"))
    whole.update(stored)
    return whole.digest()


def remembered(folder: Path, wanted: set[bytes]) -> dict[bytes, Tensor]:
    """The features (F,) of the images with these digests that the cache has. A damaged file is passed over."""
    found: dict[bytes, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        if len(found) == len(wanted):
            break
        try:
            tensors = checkpoint.load(file)[0]
        except (checkpoint.Damaged, checkpoint.Missing):
            continue
        for digest, row in zip(tensors["digests"].numpy(), tensors["features"], strict=True):
            if (key := digest.tobytes()) in wanted:
                found[key] = row
    return found


def kept(folder: Path, digests: Sequence[bytes], features: Tensor) -> str:
    """Adds a file to the cache; says why it could not be written, if so."""
    rows = torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).view(len(digests), -1)
    file = folder / f"{hashlib.sha256(b''.join(digests)).hexdigest()[:32]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(file, {"digests": rows, "features": features}, {})
    except OSError as error:
        return f"the features are not kept: {unread(folder, error).what}"
    except UserError as error:
        return f"the features are not kept: {error.what}"
    return ""


def computed(
    model: Model,
    split: Split,
    indices: Sequence[int],
    device: str | torch.device,
    workers: int | None,
    progress: Progress = iter,
    *,
    ops: Sequence[str] = (),
    seed: int = 0,
) -> Tensor:
    """The features, float32 (n, F), of the images at `indices`; with `ops`, augmented as in a first epoch."""
    net = trunk_of(model).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = torch.tensor(indices).split(BATCH)
    found = []
    crops = crops_of(tuple(ops), model.preprocess.input[1:], seed=seed, epoch=0)
    with eval_mode(net), torch.inference_mode():
        loaded = fetched(split, batches, model.preprocess, crops, workers=workers)
        for i, images in zip(progress(range(len(batches))), loaded):
            images = augment(images.to(device), batches[i], ops=ops, seed=seed, epoch=0)
            x = normalise(images, model.normalizer).contiguous(memory_format=torch.channels_last)
            found.append(net(x).float().flatten(1).cpu())
    features = torch.cat(found).clone()
    if not features.isfinite().all():
        raise UserError(
            f"the features of {model.network} are not finite", "its training diverged: use an earlier checkpoint"
        )
    return features


def trunk_of(model: Model) -> ConvNet:
    """A copy of the network without classifiers."""
    net = deepcopy(model.net)
    assert isinstance(net, ConvNet)
    net.reset_head(0)
    return net

"""What a network answers to the views of an image that a protocol shows it (protocols.py), averaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.loading import fetched, in_order, usual_workers
from ..data.normalise import Normalizer, normalise
from ..data.pixels import resize
from ..data.types import Split
from ..errors import UserError
from ..layers import ConvNet, dense
from ..preprocess import Preprocess
from ..protocols import CENTER, Cut, Protocol, View

AT_ONCE = 32  # crops of one image that the network sees in one batch


def answers(
    net: nn.Module,
    split: Split,
    batches: Iterable[Tensor],
    normalizer: Normalizer,
    protocol: Protocol,
    device: str | torch.device = "cpu",
    workers: int | None = None,
) -> Iterator[Tensor]:
    """For each of `batches` (indices into the split) float32 logits (n, classes), on the CPU, in order.

    Where the protocol averages probabilities, they are the logarithms of the averages. Raises UserError for a protocol
    that does not suit the network or its preprocessing.
    """
    if protocol.views:
        for batch in fetched(split, batches, normalizer.preprocess, workers=workers):
            yield logits_of(net, batch, normalizer, device, protocol)
        return
    preprocess = normalizer.preprocess
    dense_net = suited(net, preprocess, protocol)
    jobs = ([(i, preprocess.input[0]) for i in indices.tolist()] for indices in batches)
    for images in in_order(split.whole, jobs, usual_workers(split) if workers is None else workers):
        yield torch.stack([of_cuts(net, dense_net, image, normalizer, device, protocol) for image in images])


def checked_answers(
    net: nn.Module,
    split: Split,
    batches: Sequence[Tensor],
    normalizer: Normalizer,
    protocol: Protocol,
    device: str | torch.device = "cpu",
    workers: int | None = None,
) -> Iterator[Tensor]:
    """As `answers`. Raises UserError for another number of classes than the split has, too, and for logits that are
    not finite. The network is moved to the device."""
    net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for indices, logits in zip(batches, answers(net, split, batches, normalizer, protocol, device, workers)):
        if logits.shape[1] != len(split.classes):
            raise UserError(
                f"the network has {logits.shape[1]} classes and the data has {len(split.classes)}",
                "evaluate on data with the classes it was trained on",
            )
        bad = (~logits.isfinite()).any(1).nonzero()
        if len(bad):
            raise UserError(
                f"the network's output for image {int(indices[int(bad[0])])} is not finite",
                "training diverged: use an earlier checkpoint, or train with a smaller lr",
            )
        yield logits


def images_at_once(batch: int, protocol: Protocol) -> int:
    """How many images make a batch of so many passes through the network: at least one."""
    return max(1, batch // protocol.passes) if protocol.cuts else batch


def suited(net: nn.Module, preprocess: Preprocess, protocol: Protocol) -> nn.Module:
    """The network that sees dense cuts. Raises UserError where the protocol cannot be applied."""
    _, height, width = preprocess.input
    if height != width:
        raise UserError(f"protocol {protocol.name} is for square inputs, not {height}x{width}", "use center or flip")
    if not any(cuts.crops == "dense" for cuts in protocol.cuts):
        return net
    if preprocess.whiten in ("pixel", "gcn_zca"):
        raise UserError(
            f"protocol {protocol.name} shows images of all sizes, and {preprocess.whiten} whitening knows one",
            "use a protocol of crops, such as alexnet10",
        )
    if not isinstance(net, ConvNet):
        raise UserError(
            f"protocol {protocol.name} needs a network that runs on images of all sizes, which only torch does in fp32",
            "leave out --engine and --precision",
        )
    return dense(net)


@torch.inference_mode()
def of_cuts(
    net: nn.Module,
    dense_net: nn.Module,
    image: Tensor,
    normalizer: Normalizer,
    device: str | torch.device,
    protocol: Protocol,
) -> Tensor:
    """float32 (classes,): the averaged answer to the cuts of a whole image, uint8 (C, h, w)."""
    found, weights = [], []
    for images, cuts in cut_out(image, protocol, normalizer.preprocess):
        x = normalise(images.to(device), normalizer).contiguous(memory_format=torch.channels_last)
        found.append((dense_net(x).flatten(2).mean(2) if cuts[0].dense else net(x)).float().cpu())
        weights += [cut.weight for cut in cuts]
    logits, shares = torch.cat(found), torch.tensor(weights)[:, None]
    return averaged(logits, shares) if protocol.average == "probabilities" else (shares * logits).sum(0)


def averaged(logits: Tensor, shares: Tensor) -> Tensor:
    """The logarithm of the average, over the first dimension, of the probabilities of logits (n, ..., classes)."""
    return (logits.log_softmax(-1) + shares.log()).logsumexp(0)


def cut_out(image: Tensor, protocol: Protocol, preprocess: Preprocess) -> Iterator[tuple[Tensor, list[Cut]]]:
    """The cuts of an image, uint8 (C, h, w), as batches uint8 (n, C, H, W) of one size, in the network's order."""
    side, (_, height, width) = preprocess.input[1], image.shape
    cuts = sorted(protocol.cut(height, width, side), key=lambda cut: (cut.scaled, cut.dense))
    for (scaled, _), group in groupby(cuts, key=lambda cut: (cut.scaled, cut.dense)):
        whole, here = resize(image[None], scaled, preprocess.interpolation), list(group)
        if preprocess.order == "BGR" and len(image) == 3:
            whole = whole.flip(1)
        for start in range(0, len(here), AT_ONCE):
            some = here[start : start + AT_ONCE]
            yield torch.cat([taken(whole, cut, side, preprocess.interpolation) for cut in some]), some


def taken(whole: Tensor, cut: Cut, side: int, interpolation: str) -> Tensor:
    """One cut of the scaled image, uint8 (1, C, H, W)."""
    left, top, right, bottom = cut.box
    image = whole[:, :, top:bottom, left:right]
    if not cut.dense:
        image = resize(image, (side, side), interpolation)
    return image.flip(3) if cut.mirrored else image


@torch.inference_mode()
def logits_of(
    net: nn.Module,
    images: Tensor,
    normalizer: Normalizer,
    device: str | torch.device = "cpu",
    protocol: Protocol = CENTER,
) -> Tensor:
    """float32 logits (n, classes), on the CPU, for uint8 images (n, C, H, W) of the network's size, by their views."""
    x = normalise(images.to(device), normalizer)
    logits = [view.weight * net(seen(x, view)).float() for view in protocol.views]
    return torch.stack(logits).sum(0).cpu()


def seen(x: Tensor, view: View) -> Tensor:
    """The given view of the images (n, C, H, W), in channels_last memory."""
    if by := view.shift_px:
        h, w = x.shape[2:]
        x = F.pad(x, (abs(by),) * 4, mode="reflect")
        x = x[:, :, abs(by) - by : abs(by) - by + h, abs(by) - by : abs(by) - by + w]
    return (x.flip(3) if view.mirrored else x).contiguous(memory_format=torch.channels_last)

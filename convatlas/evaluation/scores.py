"""Scores: the prediction for each image of a split, with accuracies, confusion matrix and most frequent mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from math import sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError, unknown

MATRIX_CLASSES = 20  # with at most so many classes the confusion matrix is shown
BINS = 15  # of confidences, as in Guo et al. (2017)


class Bin(NamedTuple):
    """The images whose predicted class got a probability in (low, high]."""

    low: float
    high: float
    images: int
    accuracy: float | None  # None without images
    confidence: float | None  # the mean


class Paired(NamedTuple):
    """Two models on the same images (McNemar, 1947)."""

    first: int  # images that only the first has right
    second: int
    p: float  # two-sided, exact: the chance of so uneven a split between models that are equally good


@dataclass(frozen=True)
class Scores:
    """The prediction for each image of a split, and everything computed from it.

    Classes are ranked by logit; ties go to the lower index, in `predict` too. So a network that gives every class the
    same logit scores at chance level, not 100%, and the diagonal of `confusion` adds up to top-1.
    """

    classes: tuple[str, ...]
    labels: Tensor  # int64 (N,): the correct class of each image
    predicted: Tensor  # int64 (N,): the class ranked first
    ranks: Tensor  # int64 (N,): how many classes were ranked above the correct one
    losses: Tensor  # float32 (N,): cross-entropy, in nats
    confidences: Tensor  # float32 (N,): the probability given to the predicted class
    note: str = ""  # how the data's classes and the model's were aligned, unless they are the same

    @property
    def n(self) -> int:
        return len(self.labels)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return self.losses.double().mean().item()

    @property
    def top1(self) -> float:
        return self.top(1)

    def top(self, k: int) -> float:
        """The share of images with the correct class in the top k. Raises UserError unless 1 <= k <= classes."""
        return self.hits(k) / self.n

    def hits(self, k: int) -> int:
        """How many images have the correct class in the top k. Raises UserError as `top` does."""
        if not 1 <= k <= len(self.classes):
            raise UserError(f"top-{k} is undefined for {len(self.classes)} classes", f"give 1 to {len(self.classes)}")
        return int((self.ranks < k).sum())

    def interval(self, k: int = 1) -> tuple[float, float]:
        """The 95% confidence interval of `top(k)` (Wilson, 1927)."""
        return wilson(self.hits(k), self.n)

    @property
    def confusion(self) -> Tensor:
        """int64 (classes, classes): how many images of the row's class were predicted as the column's class."""
        c = len(self.classes)
        return torch.bincount(self.labels * c + self.predicted, minlength=c * c).view(c, c)

    @property
    def per_class(self) -> tuple[float | None, ...]:
        """Top-1 accuracy for each class; None if the split has no images of it."""
        return tuple(r / n if n else None for r, n in self._by_class())

    @property
    def per_class_intervals(self) -> tuple[tuple[float, float] | None, ...]:
        """The 95% confidence interval (Wilson) of each class's accuracy; None if the split has no images of it."""
        return tuple(wilson(r, n) if n else None for r, n in self._by_class())

    def _by_class(self) -> list[tuple[int, int]]:
        """For each class how many of its images are right, of how many."""
        c = len(self.classes)
        images = torch.bincount(self.labels, minlength=c).tolist()
        return list(zip(torch.bincount(self.labels[self.ranks == 0], minlength=c).tolist(), images, strict=True))

    def bins(self, count: int = BINS) -> list[Bin]:
        """The images by confidence, in `count` bins of equal width; (low, high], as Guo et al. (2017) count them."""
        which = (self.confidences.double() * count).ceil().long().clamp(1, count) - 1
        images = torch.bincount(which, minlength=count).tolist()
        right = torch.bincount(which[self.ranks == 0], minlength=count).tolist()
        sure = torch.bincount(which, self.confidences.double(), minlength=count).tolist()
        return [
            Bin(b / count, (b + 1) / count, n, right[b] / n if n else None, sure[b] / n if n else None)
            for b, n in enumerate(images)
        ]

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean over images of |accuracy - confidence| of their bin
        (Guo et al., 2017, equation 3)."""
        gaps = (
            b.images * abs(b.accuracy - b.confidence) for b in self.bins() if b.accuracy is not None and b.confidence
        )
        return sum(gaps) / self.n

    def images_of(self, classes: Sequence[str]) -> Tensor:
        """int64: the numbers of the images of some classes. Raises UserError for a class that there is not."""
        for name in classes:
            if name not in self.classes:
                raise unknown("class", name, self.classes)
        numbers = torch.tensor([self.classes.index(name) for name in classes], dtype=torch.int64)
        return torch.isin(self.labels, numbers).nonzero()[:, 0]

    def subset(self, images: Tensor) -> Scores:
        """The scores of some images, by number; all classes still compete. Raises UserError for none."""
        if not len(images):
            raise UserError("there are no images of these classes", "give classes that the split has")
        columns = ("labels", "predicted", "ranks", "losses", "confidences")
        return replace(self, **{name: getattr(self, name)[images] for name in columns})

    def confused(self, limit: int = 10) -> list[tuple[str, str, int]]:
        """The most frequent mistakes, in descending order: (correct class, predicted class, images)."""
        c = len(self.classes)
        wrong = self.ranks > 0
        pairs, counts = torch.unique(self.labels[wrong] * c + self.predicted[wrong], return_counts=True)
        first = counts.sort(descending=True, stable=True).indices[:limit]
        return [
            (self.classes[pair // c], self.classes[pair % c], count)
            for pair, count in zip(pairs[first].tolist(), counts[first].tolist(), strict=True)
        ]

    def to_json(self, topk: Sequence[int] | None = None) -> dict[str, Any]:
        """As plain data, with the confusion matrix (rows: correct classes) for at most MATRIX_CLASSES classes."""
        few = len(self.classes) <= MATRIX_CLASSES
        return {
            "images": self.n,
            "loss": self.loss,
            **{f"top{k}": self.top(k) for k in topk or usual_topk(len(self.classes))},
            "classes": list(self.classes),
            "per_class": self.per_class,
            "per_class_intervals": self.per_class_intervals,
            "ece": self.ece,
            "confused": [{"class": right, "predicted": wrong, "images": n} for right, wrong, n in self.confused()],
            **({"confusion": self.confusion.tolist()} if few else {}),
            **({"note": self.note} if self.note else {}),
        }

    def _repr_html_(self) -> str:
        """What a notebook shows: the accuracies and, for at most MATRIX_CLASSES classes, the confusion matrix."""
        rows = []
        for k in usual_topk(len(self.classes)):
            low, high = self.interval(k)
            rows.append((f"top-{k}", f"{self.hits(k):,}", f"{self.top(k):.2%}", f"{low:.2%} to {high:.2%}"))
        caption = f"{self.n:,} images, mean loss {self.loss:.4f}"
        tables = _html_table(caption, ("", "right", "accuracy", "95% interval"), rows)
        if len(self.classes) <= MATRIX_CLASSES:
            counts = zip(self.classes, self.confusion.tolist(), strict=True)
            matrix = [(name, *(str(n or "") for n in row)) for name, row in counts]
            tables += _html_table("right class (rows) and predicted class (columns)", ("", *self.classes), matrix)
        return tables


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95% confidence interval of a share (Wilson, 1927)."""
    share, z = hits / n, 1.959963984540054
    centre, scale = 2 * n * share + z**2, 2 * (n + z**2)
    half = z / scale * sqrt(4 * n * share * (1 - share) + z**2)
    return centre / scale - half if hits else 0.0, centre / scale + half if hits < n else 1.0


def paired(first: Scores, second: Scores) -> Paired:
    """What two models have right that the other has not, of the same images. Raises UserError for other images."""
    if not torch.equal(first.labels, second.labels):
        raise UserError("the two models were not scored on the same images", "evaluate both on one split")
    a, b = first.ranks == 0, second.ranks == 0
    only = int((a & ~b).sum()), int((b & ~a).sum())
    if not sum(only):
        return Paired(*only, 1.0)
    from scipy.stats import binomtest

    return Paired(*only, float(binomtest(only[0], sum(only)).pvalue))


def scores_of(logits: Tensor, labels: Tensor, classes: Sequence[str], note: str = "") -> Scores:
    """The scores of float32 logits (N, classes)."""
    predicted = ranking(logits, 1)[:, 0]
    sure = logits.double().softmax(1).gather(1, predicted[:, None])[:, 0].float()
    losses = F.cross_entropy(logits, labels, reduction="none")
    return Scores(tuple(classes), labels, predicted, rank_of(logits, labels), losses, sure, note)


def usual_topk(classes: int) -> tuple[int, ...]:
    """Top-1, and top-5 for more than 5 classes (top-5 of 5 is always 100%)."""
    return (1, 5) if classes > 5 else (1,)


def ranking(logits: Tensor, k: int) -> Tensor:
    """The top k classes of each row (n, k), highest logit first; ties go to the lower index."""
    return logits.sort(dim=1, descending=True, stable=True).indices[:, :k]


def rank_of(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes `ranking` puts above the correct one, for each row (n,)."""
    right = logits.gather(1, labels[:, None])
    index = torch.arange(logits.shape[1])
    return ((logits > right) | ((logits == right) & (index < labels[:, None]))).sum(1)


def _html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first cell of each row is its heading."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr><th>{escape(name)}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for name, *cells in rows
    )
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

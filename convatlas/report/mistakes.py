"""What people look at of an evaluation: the worst mistakes as a page, and every image as a row."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import Any

from PIL import Image
from torch import Tensor

from ..data.types import Split
from ..evaluation.scores import Scores
from .charts import pixels
from .tables import Table, label, number
from .templates import render

SHOWN, THUMBNAIL_PX = 60, 200


def page(scores: Scores, split: Split, at: Tensor, heading: str) -> str:
    """One HTML file without scripts or references to other files; the images are in it, as thumbnails.

    `at` are the numbers in the split of the images that were scored.
    """
    wrong = (scores.ranks > 0).nonzero()[:, 0]
    worst = wrong[scores.losses[wrong].sort(descending=True, stable=True).indices][:SHOWN].tolist()
    low, high = scores.interval()
    return render(
        "mistakes.html",
        heading=heading,
        summary=f"{scores.n:,} images, {scores.top1:.2%} right (95%: {low:.2%} to {high:.2%}).",
        wrong=f"{len(wrong):,}",
        shown=[shown(scores, split, i, int(at[i])) for i in worst],
        confused=scores.confused(),
    )


def shown(scores: Scores, split: Split, i: int, number: int) -> dict[str, Any]:
    image = Image.fromarray(pixels(split.whole(number, 3)))
    if max(image.size) < THUMBNAIL_PX // 2:  # small pictures stay sharp
        image = image.resize(
            [side * (THUMBNAIL_PX // max(image.size)) for side in image.size], Image.Resampling.NEAREST
        )
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return {
        "picture": f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}",
        "key": split.key(number),
        "right": scores.classes[scores.labels[i]],
        "predicted": scores.classes[scores.predicted[i]],
        "confidence": float(scores.confidences[i]),
    }


def per_image(scores: Scores, split: Split, at: Tensor) -> Table:
    """A row for each image, the worst first; `at` as for `page`."""
    columns = (label("image"), label("class"), label("predicted"), number("confidence"), number("rank"), number("loss"))
    order = scores.losses.sort(descending=True, stable=True).indices.tolist()
    names = scores.classes
    return Table(
        "images",
        columns,
        [
            (
                split.key(int(at[i])),
                names[scores.labels[i]],
                names[scores.predicted[i]],
                float(scores.confidences[i]),
                int(scores.ranks[i]) + 1,
                float(scores.losses[i]),
            )
            for i in order
        ],
    )

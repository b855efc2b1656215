"""IoU and ILSVRC's localisation error against closed forms and a grid; the example trains, and beats a constant box."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from convatlas.catalogue import find
from convatlas.evaluation.localisation import Localiser, found, iou

EXAMPLE = Path(__file__).parents[2] / "examples" / "localise.py"
NOTHING = [float("nan")] * 4


def test_iou_in_closed_form() -> None:
    square = torch.tensor([0.0, 0, 2, 2])
    others = torch.tensor(
        [[0.0, 0, 2, 2], [1, 0, 3, 2], [1, 1, 3, 3], [2, 0, 4, 2], [0.5, 0.5, 1.5, 1.5], [1, 1, 1, 1]]
    )
    expected = torch.tensor([1, 2 / 6, 1 / 7, 0, 1 / 4, 0])
    assert torch.allclose(iou(square, others), expected)
    assert torch.allclose(iou(others, square), expected)
    assert iou(torch.zeros(4), torch.zeros(4)) == 0
    assert iou(torch.tensor([2.0, 2, 0, 0]), square) == 0, "a box that is inside out has no area"


def test_iou_by_counting_pixels() -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(box: Tensor) -> Tensor:
        x0, y0, x1, y1 = box.int().tolist()
        canvas = torch.zeros(16, 16, dtype=torch.bool)
        canvas[y0:y1, x0:x1] = True
        return canvas

    for _ in range(200):
        a, b = torch.randint(0, 17, (2, 2, 2), generator=generator).sort(1).values.reshape(2, 4).float()
        shared, union = (drawn(a) & drawn(b)).sum(), (drawn(a) | drawn(b)).sum()
        assert iou(a, b) == pytest.approx(float(shared) / max(int(union), 1))


def test_a_guess_needs_its_class_and_half_of_the_box() -> None:
    truth = torch.tensor([[0.0, 0, 1, 1]])
    logits, boxes = torch.tensor([[3.0, 2, 1, 0]]), torch.zeros(1, 4, 4)
    for label in range(4):
        for guesses in (1, 2, 5):
            for width, near in ((0.5, True), (0.49, False), (1.0, True)):
                boxes[0] = torch.tensor([9.0, 9, 10, 10])  # a right box of another class does not help
                boxes[0, label] = torch.tensor([0, 0, width, 1.0])
                assert found(logits, boxes, torch.tensor([label]), truth, guesses).tolist() == [
                    near and label < guesses
                ]


def test_one_of_several_objects_is_enough() -> None:
    truth = torch.tensor([[[0.0, 0, 1, 1], [2, 2, 3, 3]], [[0, 0, 1, 1], NOTHING]])
    boxes = torch.tensor([2.0, 2, 3, 3]).expand(2, 1, 4)
    assert found(torch.zeros(2, 1), boxes, torch.zeros(2, dtype=torch.int64), truth).tolist() == [True, False]


def test_the_head() -> None:
    torch.manual_seed(0)
    net = Localiser(find("lenet_caffe").build(classes=3, input=(1, 24, 20))).eval()
    x = torch.randn(2, 1, 24, 20)
    logits, boxes = net(x)
    assert torch.equal(logits, net.net(x))
    assert boxes.shape == (2, 3, 4)
    assert (boxes[..., :2] <= boxes[..., 2:]).all()


def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


def test_pasted_boxes_hold_what_is_drawn() -> None:
    digits = torch.zeros(50, 1, 8, 8, dtype=torch.uint8)
    digits[:, :, 2:7, 3:5] = 255  # 5 rows and 2 columns, 2 or 3 times as large
    canvas, boxes = example()["pasted"](digits, 0)
    for image, box in zip(canvas, (boxes * 32).round().int().tolist(), strict=True):
        x0, y0, x1, y1 = box
        assert (y1 - y0, x1 - x0) in ((10, 4), (15, 6))
        bright = image[0] > 0.5
        assert bright[y0:y1, x0:x1].all()
        assert bright.sum() == (y1 - y0) * (x1 - x0)


def test_a_little_training() -> None:
    it = example()
    net, constant = it["train"](epochs=4, seed=0, images=96)
    scores = it["judge"](net, constant)
    assert scores["images"] == 355
    assert all(0 <= value <= 1 for name, value in scores.items() if name != "images")
    assert scores["error5"] <= scores["error1"]


@pytest.mark.slow
def test_the_example() -> None:
    it = example()
    scores = it["judge"](*it["train"](epochs=12, seed=0))
    assert scores["error5"] <= 0.1
    assert scores["error5_control"] >= 2 * scores["error5"]
    assert scores["iou"] >= scores["iou_control"] + 0.2

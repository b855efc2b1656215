"""int8 beside fp32: the same images, the accuracies of both, and how much faster it is."""

import pytest
import torch

from convatlas.data.types import Data, MemorySplit
from convatlas.engines import judged
from convatlas.engines.timing import Ratio
from tests.engines import nets


@pytest.mark.usefixtures("exports")
def test_both_are_scored_on_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The labels are what fp32 answers, so its accuracy is 100%; int8's is how often it agrees."""
    monkeypatch.setattr(judged, "SECONDS", 0.1)
    monkeypatch.setattr(judged, "IMAGES", 60)
    model = nets.model("lenet5")
    pixels = torch.randint(0, 256, (200, 1, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    x = (pixels / 255 - 0.5) / 0.25
    with torch.no_grad():
        answers = model.net(x).argmax(1)
    train, test = (MemorySplit(name, pixels, answers, model.classes) for name in ("train", "test"))
    found = judged.judged(model, "onnxruntime", Data("noise", train, None, test, (1, 32, 32), (0.5,), (0.25,)), x[:20])
    assert (found.engine, found.split, found.n) == ("onnxruntime", "test", 60)
    assert found.fp32 == {1: 1.0, 5: 1.0}
    assert 0.8 < found.int8[1] <= 1.0
    assert found.faster.n >= 5


def test_what_is_said() -> None:
    faster = Ratio(2.12, 1.95, 2.31, 30)
    found = judged.Judged("openvino", "val", 500, {1: 0.544, 5: 0.802}, {1: 0.54, 5: 0.798}, faster)
    assert str(found) == (
        "int8 on openvino: top-1 54.0%, top-5 79.8%, in fp32 top-1 54.4%, top-5 80.2%, of 500 images of val; "
        "2.1 times as fast (1.9 to 2.3)"
    )
    assert found.to_json()["int8"] == {"top1": 0.54, "top5": 0.798}

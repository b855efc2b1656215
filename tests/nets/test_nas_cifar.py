"""The network of Zoph and Le's Fig. 7: its arrows, its parameters by hand, its two ablations."""

import pytest
import torch

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.nets.nas_cifar import FIG_7, NAS

BATCH_NORM = 2 * (7 * 36 + 8 * 48)
LINEAR = 48 * 10 + 10


def test_the_figure() -> None:
    """The drawing has 14 straight arrows between layers and 51 curves (the one from 1 to 10 twice)."""
    assert all(number in sources for number, (*_, sources) in enumerate(FIG_7))
    assert sum(len(sources) for *_, sources in FIG_7[1:]) == 14 + 51
    fed = [sum(number in sources for *_, sources in FIG_7) for number in range(1, 15)]
    assert fed == [9, 7, 8, 5, 5, 7, 6, 4, 3, 2, 3, 3, 2, 1]  # arrows that leave each layer, counted in the drawing


def test_parameters_by_hand() -> None:
    rows = {r.path: r for r in account("nas_v1").table("layer")}
    assert rows["stages.layer6.conv.conv"].weights == 7 * 7 * (48 + 36 + 36 + 48) * 48 + 48  # batch norm's scale too
    assert rows["stages.layer10.conv.conv"].weights == 7 * 7 * (36 + 36 + 36 + 48 + 48 + 48 + 36 + 36) * 36 + 36
    inputs = [3, 36, 84, 120, 72, 168, 216, 132, 168, 324, 336, 240, 360, 180, 276]  # summed by hand
    weights = sum(h * w * cin * cout for (h, w, cout, _), cin in zip(FIG_7, inputs, strict=True))
    assert account("nas_v1").totals.params == weights + BATCH_NORM + LINEAR == 4_201_630
    assert account("nas_v1").totals.macs == 1024 * weights + 480  # every layer works on 32 x 32


def test_ablations() -> None:
    widths = [3] + [cout for _, _, cout, _ in FIG_7]
    before = [3] + [sum(widths[1:n]) for n in range(2, 16)]
    for skips, inputs in (("all", before), ("none", widths)):
        weights = sum(h * w * cin * cout for (h, w, cout, _), cin in zip(FIG_7, inputs, strict=False))
        assert account(f"nas_v1_{skips}").totals.params == weights + BATCH_NORM + LINEAR


def test_a_layer_sees_its_sources_alone() -> None:
    """Removing what one layer made changes the next layers by the figure's arrows, and no other."""
    torch.manual_seed(0)
    net = NAS().eval()
    x = torch.randn(1, 3, 9, 9)
    made = net.stages[:-1](x)
    for gone in range(1, 15):
        without = tuple(torch.zeros_like(m) if n == gone else m for n, m in enumerate(made))
        for number, (layer, (*_, sources)) in enumerate(zip(net.stages, FIG_7, strict=False), start=1):
            changed = not layer(without[:number])[-1].equal(made[number])
            assert changed == (gone in sources)


def test_without_skips_it_is_a_chain() -> None:
    torch.manual_seed(0)
    net = NAS(skips="none").eval()
    x = torch.randn(2, 3, 9, 9)
    chain = torch.nn.Sequential(*(layer.conv for layer in list(net.stages)[:-1]))
    assert net.head(chain(x)).equal(net(x))


def test_odd_sizes_and_errors() -> None:
    assert NAS()(torch.randn(2, 3, 5, 7)).shape == (2, 10)
    with pytest.raises(UserError, match="no choice of skips named 'dense'; choose from found, all, none"):
        NAS(skips="dense")  # type: ignore[arg-type]

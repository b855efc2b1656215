"""Chain: the grammar of plain networks, CS231n notes on convolutional networks (Karpathy, 2015),
https://cs231n.github.io/convolutional-networks/

Read beside "Layer patterns": [(CONV-RELU)*N-POOL?]*M-(FC-RELU)*K-SOFTMAX, for any N, M, K and widths.
Departures from the paper: none; the grammar gives no kernel sizes, so convolutions are 3 x 3 and size-preserving and
pools are 2 x 2, as the notes recommend; the softmax is in the loss, the network returns logits. He's initialisation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError
from ..layers import ConvNet, Shape, he_, shape_after, stack

PAPER = Paper(
    "CS231n: Convolutional Neural Networks for Visual Recognition, course notes",
    "Karpathy",
    2015,
    "https://cs231n.github.io/convolutional-networks/",
)
GRAMMAR = r"\[\(CONV-RELU\)\*(?P<convs>\d+)(?P<pool>-POOL\??)?\]\*(?P<groups>\d+)(-\(FC-RELU\)\*(?P<fcs>\d+))?-SOFTMAX"


class Chain(ConvNet):
    """Images (N, C, H, W) in, logits (N, classes) out: `groups` times `convs` convolutions, then `fcs` linear layers.

    `widths` are the maps of each group, `hidden` the units of each linear layer but the last; `pool` halves the size
    after each group.
    """

    def __init__(
        self,
        *,
        convs: int = 1,
        groups: int = 1,
        fcs: int = 1,
        pool: bool = True,
        widths: Sequence[int] | None = None,
        hidden: Sequence[int] | None = None,
        input: Shape = (3, 32, 32),
        classes: int = 10,
    ):
        super().__init__()
        widths = [32 * 2**i for i in range(groups)] if widths is None else widths
        hidden = [128] * fcs if hidden is None else hidden
        for name, count in (("convs", convs), ("groups", groups)):
            if count < 1:
                raise UserError(f"{name}={count} gives no convolutions", "give at least 1")
        for name, count, given in (("widths", groups, widths), ("hidden", fcs, hidden)):
            if len(given) != count or any(n < 1 for n in given):
                raise UserError(f"{name}={tuple(given)} is not {count} positive widths", "give one for each")
        blocks: dict[str, nn.Module] = {}
        cin = input[0]
        for i, cout in enumerate(widths, start=1):
            block: dict[str, nn.Module] = {}
            for j in range(1, convs + 1):
                block |= {f"conv{j}": nn.Conv2d(cin, cout, 3, padding=1), f"relu{j}": nn.ReLU(inplace=True)}
                cin = cout
            blocks[f"group{i}"] = stack(**block, **({"pool": nn.MaxPool2d(2)} if pool else {}))
        self.stem = blocks.pop("group1")
        self.stages = stack(**blocks)
        c, h, w = shape_after(self.trunk(), input)
        head: dict[str, nn.Module] = {"flatten": nn.Flatten()}
        units = c * h * w
        for i, width in enumerate(hidden, start=1):
            head |= {f"fc{i}": nn.Linear(units, width), f"relu{i}": nn.ReLU(inplace=True)}
            units = width
        self.head = stack(**head, logits=nn.Linear(units, classes))
        he_(self, "fan_in")


def chain(
    pattern: str,
    *,
    widths: Sequence[int] | None = None,
    hidden: Sequence[int] | None = None,
    input: Shape = (3, 32, 32),
    classes: int = 10,
) -> Chain:
    """The network for a pattern such as "[(CONV-RELU)*2-POOL]*3-(FC-RELU)*1-SOFTMAX". "POOL?" pools.

    Raises UserError for a pattern that does not match the grammar.
    """
    read = re.fullmatch(GRAMMAR, re.sub(r"\s", "", pattern).upper().replace("×", "*"))
    if not read:
        raise UserError(
            f"{pattern!r} does not match the grammar [(CONV-RELU)*N-POOL?]*M-(FC-RELU)*K-SOFTMAX",
            "write numbers for N, M, K",
        )
    return Chain(
        convs=int(read["convs"]),
        groups=int(read["groups"]),
        fcs=int(read["fcs"] or 0),
        pool=read["pool"] is not None,
        widths=widths,
        hidden=hidden,
        input=input,
        classes=classes,
    )


def by_construction(deep: Chain, shallow: Chain) -> Chain:
    """`deep` with the weights of `shallow`, and its extra convolutions as identities: it computes the same function.

    So a deeper plain network has a solution that is no worse than the shallower one's (He et al., 2015, section 1);
    what comes after a ReLU passes through the next one unchanged. Raises UserError if the networks differ in anything
    but the number of convolutions in a group.
    """
    known, own = shallow.state_dict(), deep.state_dict()
    extra = {name.rpartition(".")[0] for name in own.keys() - known.keys()}
    if any(name not in own or own[name].shape != known[name].shape for name in known) or not all(
        isinstance(deep.get_submodule(name), nn.Conv2d) for name in extra
    ):
        raise UserError(
            "the networks differ in more than the number of convolutions in a group",
            "give the deeper one the shallower one's groups, widths, hidden layers, input and classes",
        )
    deep.load_state_dict(known, strict=False)
    for name in extra:
        conv = cast(nn.Conv2d, deep.get_submodule(name))
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(cast(Tensor, conv.bias))
    return deep


def row(convs: int, groups: int, fcs: int, params: str) -> Variant:
    pattern = f"[(CONV-RELU)*{convs}-POOL]*{groups}-(FC-RELU)*{fcs}-SOFTMAX"
    args = dict(convs=convs, groups=groups, fcs=fcs)
    claims = [Claim("params", params, "layer arithmetic")]
    return Variant(f"chain_n{convs}_m{groups}_k{fcs}", args, note=pattern, claims=claims)


VARIANTS = family(
    Chain,
    PAPER,
    [
        row(1, 1, 0, "82,826"),
        row(1, 2, 1, "545,098"),
        row(2, 3, 1, "550,570"),
        row(3, 3, 2, "760,842"),
    ],
    input=(3, 32, 32),
)

"""A start from other weights: VGG's deeper networks from its shallow one, or any network from a similar one."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..recipe import Recipe
from ..runs.checkpoint import digest
from ..weights.files import read_weights

SHOWN = 4  # names in a line of text


def plan_start(file: Path, net: nn.Module, recipe: Recipe) -> dict[str, Any]:
    """For run.json: which tensors of the new network start as those of the file of weights, and which do not.

    Taken is what has the same name and shape in both and a name that one of `recipe.init` matches ("head.*").
    Raises UserError when that is nothing.
    """
    weights, new = read_weights(file), net.state_dict()
    theirs, network = weights.tensors, weights.about.get("network", "a network not named there")
    taken = [
        name
        for name, tensor in new.items()
        if name in theirs and theirs[name].shape == tensor.shape and any(fnmatchcase(name, p) for p in recipe.init)
    ]
    if not taken:
        raise UserError(
            f"no tensor of the network has the name and shape of one in {file} ({network}) and a name that "
            f"init={','.join(recipe.init)} takes",
            "give --init weights of a similar network, or --set init=*",
        )
    left = [name for name in new if name not in set(taken)]
    known = digest("", {name: theirs[name] for name in taken})
    return {"file": str(file), "network": network, "taken": taken, "left": left, "sha256": known}


@torch.no_grad()
def start_from(net: nn.Module, plan: dict[str, Any]) -> str:
    """Gives the network the tensors that the plan takes; says so.

    Raises UserError when they are no longer those that were there when the plan was made.
    """
    source, mine = read_weights(plan["file"]).tensors, net.state_dict()
    taken = {name: source[name] for name in plan["taken"] if name in source}
    if plan["sha256"] != digest("", taken):
        raise UserError(
            f"the weights in {plan['file']} are not those that this run was to start from",
            "put them back, or start another run from those that are there now",
        )
    for name in plan["taken"]:
        mine[name].copy_(source[name])
    return (
        f"starts from {len(plan['taken'])} of {len(mine)} tensors of {plan['file']} ({plan['network']}): "
        f"{some(plan['taken'])}; newly initialised: {some(plan['left'])}"
    )


def some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN]) or "none"
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown

"""A start from another run's weights: VGG's deeper networks from its shallow one, or any network from a like one."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..recipe import Recipe
from ..runs.checkpoint import digest
from ..runs.folder import Run, open_run

SHOWN = 4  # names in a line of text


def plan_start(source: Run, net: nn.Module, recipe: Recipe) -> dict[str, Any]:
    """For run.json: which tensors of the new network start as those of the source's best (or last) checkpoint.

    Taken is what has the same name and shape in both and a name that one of `recipe.init` matches ("head.*").
    Raises UserError when that is nothing.
    """
    new, theirs = net.state_dict(), source.weights()
    taken = [
        name
        for name, tensor in new.items()
        if name in theirs and theirs[name].shape == tensor.shape and any(fnmatchcase(name, p) for p in recipe.init)
    ]
    if not taken:
        raise UserError(
            f"no tensor of the network has the name and shape of one in {source.folder} ({source.network}) and "
            f"a name that init={','.join(recipe.init)} takes",
            "give --init a run of a like network, or --set init=*",
        )
    left = [name for name in new if name not in set(taken)]
    known = digest("", {name: theirs[name] for name in taken})
    return {
        "run": str(source.folder),
        "network": source.network,
        "checkpoint": source.checkpoint().stem,
        "taken": taken,
        "left": left,
        "sha256": known,
    }


@torch.no_grad()
def start_from(net: nn.Module, plan: dict[str, Any]) -> str:
    """Gives the network the tensors that the plan takes; says so.

    Raises UserError when they are no longer those that were there when the plan was made.
    """
    source, mine = open_run(plan["run"]).weights(plan["checkpoint"]), net.state_dict()
    taken = {name: source[name] for name in plan["taken"] if name in source}
    if plan.get("sha256", digest("", taken)) != digest("", taken):
        raise UserError(
            f"the {plan['checkpoint']} weights in {plan['run']} are not those that this run was to start from",
            "put them back, or begin another run with those that are there now",
        )
    for name in plan["taken"]:
        mine[name].copy_(source[name])
    return (
        f"begins with {len(plan['taken'])} of {len(mine)} tensors of {plan['run']} "
        f"({plan['network']}, {plan['checkpoint']}): "
        f"{some(plan['taken'])}; initialised anew: {some(plan['left'])}"
    )


def some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN]) or "none"
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown

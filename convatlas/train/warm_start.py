"""Initialising from other weights: VGG's deeper networks from a shallow one, or any network from a similar one."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..recipe import Recipe
from ..runs.checkpoint import as_type, digest, type_name
from ..weights.files import read_weights

SHOWN = 4  # names in a message


def plan_start(file: Path, net: nn.Module, recipe: Recipe) -> dict[str, Any]:
    """For run.json: which tensors of the new network are copied from the weights file, and which are not.

    A tensor is taken if its name and shape are the same in both and one of the patterns in `recipe.init` ("head.*")
    matches its name. Raises UserError if there is none.
    """
    weights, new = read_weights(file), net.state_dict()
    theirs, network = weights.tensors, weights.about.get("network", "unnamed network")
    taken = [
        name
        for name, tensor in new.items()
        if name in theirs and theirs[name].shape == tensor.shape and any(fnmatchcase(name, p) for p in recipe.init)
    ]
    if not taken:
        raise UserError(
            f"no tensor of the network that matches init={','.join(recipe.init)} has the name and shape of one in "
            f"{file} ({network})",
            "give --init weights of a similar network, or --set init=*",
        )
    left = [name for name in new if name not in set(taken)]
    for name in taken:
        as_type(name, theirs[name], new[name].dtype, str(file))
    known = digest("", {name: theirs[name] for name in taken})
    return {"file": str(file), "network": network, "taken": taken, "left": left, "sha256": known}


@torch.no_grad()
def start_from(net: nn.Module, plan: dict[str, Any]) -> str:
    """Copies the tensors of the plan into the network; returns a summary.

    Raises UserError if the file has changed since the plan was made.
    """
    source, mine = read_weights(plan["file"]).tensors, net.state_dict()
    taken = {name: source[name] for name in plan["taken"] if name in source}
    same = all(name in mine and mine[name].shape == tensor.shape for name, tensor in taken.items())
    if not same or len(taken) < len(plan["taken"]) or plan["sha256"] != digest("", taken):
        raise UserError(
            f"the weights in {plan['file']} have changed since this run was set up to start from them",
            "restore the original file, or start a new run",
        )
    for name in plan["taken"]:
        mine[name].copy_(as_type(name, source[name], mine[name].dtype, plan["file"]))
    types = {(source[name].dtype, mine[name].dtype) for name in plan["taken"]}
    casts = sorted(f"; {type_name(theirs)} made {type_name(ours)}" for theirs, ours in types if theirs != ours)
    return (
        f"initialised {len(plan['taken'])} of {len(mine)} tensors from {plan['file']} ({plan['network']}): "
        f"{some(plan['taken'])}; newly initialised: {some(plan['left'])}{''.join(casts)}"
    )


def some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN]) or "none"
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown

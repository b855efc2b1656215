"""Initialising from other weights: VGG's deeper networks from a shallow one, or any network from a similar one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..layers import ConvNet
from ..recipe import Recipe
from ..runs.checkpoint import as_type, digest, type_name
from ..weights.files import read_weights
from ..weights.identify import classes_of
from ..weights.match import fit

SHOWN = 4  # names in a message


def plan_start(file: Path, net: ConvNet, recipe: Recipe) -> dict[str, Any]:
    """For run.json: which tensors of the new network are copied from the weights file, and which are not.

    A tensor is taken if its name and shape are the same in both and one of the patterns in `recipe.init` ("head.*")
    matches its name. Raises UserError if there is none.
    """
    theirs, network = tensors_for(net, file)
    new = net.state_dict()
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


def tensors_for(net: ConvNet, file: Path) -> tuple[dict[str, Tensor], str]:
    """The file's tensors under the network's names where another library named them, and what they are of.

    Raises UserError for a file of another library that does not fit the network but for its classes.
    """
    weights, own = read_weights(file), net.state_dict()
    if weights.about or any(name in own and t.shape == own[name].shape for name, t in weights.tensors.items()):
        return weights.tensors, str(weights.about.get("network", "unnamed network"))
    like = copy.deepcopy(net)  # with as many classes as the file has
    classifier = next(p for p in net.get_submodule(net.logits_layers[0]).parameters() if p.dim() > 1)
    others = [p.numel() for p in net.parameters() if p.dim() > 1 and p is not classifier]
    like.reset_head(classes_of(weights, len(classifier), classifier[0].numel(), others))
    fitted = fit(weights, like, str(file))
    return fitted.tensors, f"{net.variant}, matched {fitted.how}"


@torch.no_grad()
def start_from(net: ConvNet, plan: dict[str, Any]) -> str:
    """Copies the tensors of the plan into the network; returns a summary.

    Raises UserError if the file has changed since the plan was made.
    """
    source, mine = tensors_for(net, Path(plan["file"]))[0], net.state_dict()
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

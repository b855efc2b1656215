"""Why a network's forward pass failed, in one sentence."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..errors import UserError

FAILURES = (Exception, SystemExit)
OURS = Path(__file__).parent.parent, Path(torch.__file__).parent
PLAIN = (RuntimeError, ValueError, NotImplementedError)  # torch's own, whose messages need no name
UNKNOWN = re.compile(r"(\S+): (?:attempted to run this operator with Meta tensors|We could not find the fake impl)")
ARRAY = re.compile(r"tensor to numpy|\.numpy\(\) is not supported")
VALUES = re.compile(r"cannot be called on meta tensors|Cannot copy out of meta tensor|_local_scalar_dense|aten.equal")
SHAPES = re.compile(r"torch.(nonzero)\(\)|aten.(\w+)\.\w+$")
ARGUMENTS = re.compile(r"missing \d+ required|takes .* positional argument|unexpected keyword|multiple values")
NO_VALUES = "which are not computed here"
APART = "count the modules before and after that step instead"


def refusal(
    name: str, net: Any, args: Sequence[Any], kwargs: Mapping[str, Any], error: BaseException, amp: bool = False
) -> UserError:
    """ "NAME does not run on input 1x3x8x8: why; remedy"."""
    given = ", ".join("x".join(map(str, t.shape)) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
    reason, remedy = why(error)
    if amp and remedy == APART:
        remedy = "try without amp"
    if isinstance(error, TypeError) and ARGUMENTS.search(reason) and isinstance(net, nn.Module):
        try:
            signature(net.forward).bind(*args, **kwargs)
        except TypeError:
            remedy = 'describe every argument: input=[(3, 8, 8), (5,)], or by name input={"x": (3, 8, 8)}'
    return UserError(f"{name} does not run on input {given}: {reason}", remedy)


def why(error: BaseException) -> tuple[str, str]:
    """An error in the forward pass in one line, and what to do about it, if that is known."""
    lines, kind = str(error).strip().splitlines(), type(error).__name__
    first, where = lines[0] if lines else "", _where(error)
    if unknown := UNKNOWN.match(first):
        return f"torch cannot infer the output of {unknown[1]} without values", ""
    if ARRAY.search(first):
        return f"it makes a NumPy array of a tensor, which has no values here{where}", APART
    if kind == "DynamicOutputShapeException" or "torch.nonzero()" in first:
        op = match[1] or match[2] if (match := SHAPES.search(first)) else "an operator"
        return f"the size of what {op} returns depends on tensor values, {NO_VALUES}{where}", APART
    if kind == "DataDependentOutputException" or VALUES.search(first):
        return f"it branches on tensor values, {NO_VALUES}{where}", APART
    if isinstance(error, AssertionError):
        return f"an assertion fails{where}" + (f": {first}" if first else ""), ""
    return (first if isinstance(error, PLAIN) and first else f"{kind}{where}" + (f": {first}" if first else "")), ""


def _where(error: BaseException) -> str:
    """The last line of the user's own code that was running."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_file() and not any(file.is_relative_to(folder) for folder in OURS):
            return f" ({file.name} line {frame.lineno})"
    return ""

"""`convatlas lr`: the learning-rate finder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import UserError
from . import source
from .output import parse_input, print_json
from .train import add_task, choose_recipe, execution_of

HELP = "find a learning rate: train briefly with a rate that grows, and see where the loss falls fastest"


def add(parser: argparse.ArgumentParser) -> None:
    add_task(parser)
    parser.add_argument("--from", metavar="LR", dest="lowest", type=float, default=1e-6, help="lowest rate (1e-6)")
    parser.add_argument("--to", metavar="LR", dest="highest", type=float, default=10.0, help="highest rate (10)")
    parser.add_argument("--steps", metavar="N", type=int, default=100, help="steps from one to the other (100)")
    parser.add_argument("--plot", metavar="FILE", help="draw the losses: a .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="print JSON; progress goes to stderr")


def run(args: argparse.Namespace) -> None:
    from ..catalogue import find
    from ..files.figure import FORMATS
    from ..report import charts
    from ..train.finder import find_rate
    from ..train.progress import progress

    if args.plot and Path(args.plot).suffix not in FORMATS:
        raise UserError(f"--plot {args.plot} is no picture", f"give a name that ends in {', '.join(FORMATS)}")
    variant = find(args.network)
    recipe = choose_recipe(variant, args)
    with progress(sys.stderr) as on_event:
        found = find_rate(
            variant,
            source.load(args),
            recipe,
            lowest=args.lowest,
            highest=args.highest,
            steps=args.steps,
            seed=args.seed,
            device=args.device,
            execution=execution_of(args),
            input=parse_input(args.input) if args.input else None,
            on_event=on_event,
        )
    if args.plot:
        charts.rates(found.to_json(), Path(args.plot))
    if args.json:
        about = {"network": variant.name, "recipe": recipe.name, "recipe_lr": recipe.optimizer.lr}
        print_json(about | found.to_json())
        return
    print(
        f"the loss of {variant.name} falls fastest at a rate of {found.best:.3g} "
        f"(recipe {recipe.name}: {recipe.optimizer.lr:g}); tried {found.rates[0]:.3g} to {found.rates[-1]:.3g} in "
        f"{len(found.rates)} steps" + (f"; drawn in {args.plot}" if args.plot else "") + "; to train with it, or with "
        f"less: convatlas train {variant.name} --set lr={found.best:.3g} ..."
    )

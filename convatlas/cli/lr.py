"""`convatlas lr`: the learning-rate finder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import checks, source
from .output import command, print_json, say
from .train import add_machine, add_network_and_images, add_recipe, execution_of, task_of

HELP = "find a learning rate: where the loss falls fastest"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas lr lenet5 --data digits --recipe digits --plot rates.png"
    add_network_and_images(parser)
    add_recipe(parser)
    sweep = parser.add_argument_group("sweep")
    sweep.add_argument("--from", metavar="LR", dest="lowest", type=float, default=1e-6, help="lowest rate (1e-6)")
    sweep.add_argument("--to", metavar="LR", dest="highest", type=float, default=10.0, help="highest rate (10)")
    sweep.add_argument("--steps", metavar="N", type=int, default=100, help="steps from one to the other (100)")
    sweep.add_argument("--plot", metavar="FILE", help="plot loss against learning rate: a .png, .svg or .pdf")
    add_machine(parser)
    parser.add_argument("--json", action="store_true", help="print JSON; progress goes to stderr")


def run(args: argparse.Namespace) -> None:
    task = task_of(args)
    if args.plot:
        checks.picture("--plot", args.plot)
    from ..catalogue import find
    from ..report import charts
    from ..report.progress import progress
    from ..train.finder import find_rate

    with progress(sys.stderr) as on_event:
        found = find_rate(
            find(task.network),
            source.load(args),
            task.recipe,
            lowest=args.lowest,
            highest=args.highest,
            steps=args.steps,
            seed=args.seed,
            device=args.device,
            execution=execution_of(args),
            input=task.input,
            on_event=on_event,
        )
    if args.plot:
        charts.rates(found.to_json(), Path(args.plot))
    if args.json:
        about = {"network": task.network, "recipe": task.recipe.name, "recipe_lr": task.recipe.optimizer.lr}
        print_json(about | found.to_json())
        return
    say(
        f"{task.network}, recipe {task.recipe.name} (lr {task.recipe.optimizer.lr:g}): the loss falls fastest at lr "
        f"{found.best:.3g}; tried {found.rates[0]:.3g} to {found.rates[-1]:.3g} in {len(found.rates)} steps"
        + (f"; plotted in {args.plot}" if args.plot else "")
    )
    recipe = ["--recipe", args.recipe] if args.recipe else []
    words = ["convatlas", "train", task.network, "--data", args.data, *recipe, "--set", f"lr={found.best:.3g}"]
    say(f"to train at this rate or a lower one: {command(words)}")

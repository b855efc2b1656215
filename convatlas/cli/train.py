"""`convatlas train`: a network, data and a recipe in; a run folder out."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..catalogue import Shape
from ..errors import UserError
from ..limits import parse_seconds
from ..recipe import Recipe, with_batch, with_epochs, with_settings
from ..recipes import WITHOUT, find_recipe
from ..runs.log import held_out
from ..tables import entry
from . import checks, model, process, source
from .output import command, parse_input, print_json, say, terminal_width

if TYPE_CHECKING:
    from ..train.execution import Execution

HELP = "train a network on your images by its paper's recipe"
STATUS = """example: convatlas train resnet20 --data cifar-10-batches-py --epochs 10
exit status: 0 trained; 1 the loss is not finite (the last checkpoint is kept); 2 an error that you can fix, in one \
line; 130 stopped by Ctrl-C (143 by SIGTERM, 129 by SIGHUP: terminal closed) and saved: --resume continues"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = STATUS
    add_network_and_images(parser)
    recipe = add_recipe(parser)
    recipe.add_argument("--epochs", metavar="N", type=int, help="number of epochs; the schedule is scaled to match")
    recipe.add_argument("--batch", metavar="N", type=int, help="global batch size; the learning rate scales linearly")
    folder = parser.add_argument_group("run folder")
    folder.add_argument("--out", metavar="DIR", help="the run folder (default runs/NETWORK-DATA-seedN)")
    folder.add_argument(
        "--init",
        metavar="MODEL",
        help="a run, weights file or NETWORK@SOURCE to start from: loads what matches in name and shape",
    )
    folder.add_argument(
        "--resume", action="store_true", help="continue the run in the folder, if there is one, with the same options"
    )
    folder.add_argument(
        "--save-every", metavar="TIME", default="10m", help="time between checkpoints within an epoch (default 10m)"
    )
    folder.add_argument("--tensorboard", action="store_true", help="write the log for TensorBoard as well")
    add_machine(parser)
    parser.add_argument(
        "--plan",
        action="store_true",
        help="train nothing: print steps, memory and the time that a short trial predicts",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON; progress goes to stderr")


def add_network_and_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", metavar="NETWORK", help="a network, as `list` or its paper spells it")
    images = parser.add_argument_group("images")
    source.add_data(images)
    source.add_bad(images)
    images.add_argument(
        "--input", metavar="CxHxW", help="image size (default: the network's, with the data's channels)"
    )


def add_recipe(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("recipe")
    group.add_argument("--recipe", metavar="RECIPE", help="a recipe by name (default: the network's own)")
    group.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="change a setting of the recipe (repeatable): lr=0.05, schedule=cosine, warmup.epochs=5",
    )
    group.add_argument(
        "--seed", metavar="N", type=int, default=0, help="seed of weights, image order and augmentation (default 0)"
    )
    return group


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Options for how this machine runs the recipe."""
    group = parser.add_argument_group("machine")
    group.add_argument("--device", metavar="D", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1")
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto is bfloat16 where the device computes with it and the network is large enough to gain",
    )
    group.add_argument(
        "--micro-batch",
        metavar="N",
        type=int,
        default=0,
        help="gradient accumulation: images per pass (default: as many as fit in memory)",
    )
    group.add_argument(
        "--segments", metavar="N", type=int, default=0, help="activation checkpointing in N segments (default 0: none)"
    )
    for flag, what in (("compile", "torch.compile the network"), ("graph", "replay each step as a CUDA graph")):
        group.add_argument(
            f"--{flag}",
            action=argparse.BooleanOptionalAction,
            help=f"{what} (default: where a trial before a long run on a GPU finds it faster)",
        )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="bit-identical runs on a GPU too, by slower algorithms (runs on a CPU always are)",
    )
    group.add_argument(
        "--workers", metavar="N", type=int, help="threads that read and decode images ahead (default: one per core)"
    )
    group.add_argument("--sync-bn", action="store_true", help="synchronise batch norm's statistics across GPUs")


class Task(NamedTuple):
    """The arguments, checked without torch."""

    network: str
    recipe: Recipe
    input: Shape | None


def task_of(args: argparse.Namespace, epochs: int | None = None, batch: int | None = None) -> Task:
    """Raises UserError for a network, source, recipe, setting, image size or device that does not exist."""
    checks.network_and_data(args.network, args.data)
    checks.device(args.device)
    source.max_pixels(args)
    network = entry(args.network)
    recipe = choose_recipe(network, args.recipe)
    if epochs is not None:
        recipe = with_epochs(recipe, epochs)
    if batch is not None:
        recipe = with_batch(recipe, batch)
    recipe = with_settings(recipe, args.set)
    return Task(network["name"], recipe, parse_input(args.input) if args.input else None)


def choose_recipe(network: Mapping[str, Any], name: str | None) -> Recipe:
    """The recipe of that name, by default that of the network (an entry of the index)."""
    name = name or network["recipe"]
    if name is None:
        why = WITHOUT[network["family"]]
        raise UserError(f"{network['name']} has no default recipe ({why})", "give one, such as --recipe resnet_cifar")
    return find_recipe(name)


def run(args: argparse.Namespace) -> int:
    task = task_of(args, args.epochs, args.batch)
    save_every_s = parse_seconds(args.save_every)
    if args.init:
        model.checked(args.init)
    if args.plan:
        return plan(args, task)
    from ..files.atomic import Unwritable
    from ..report.progress import progress
    from ..train.divergence import Diverged
    from ..train.events import quiet
    from ..train.fit import Stopped, fit

    first = not process()
    data = source.load(args)
    out = Path(args.out or f"runs/{task.network}-{data.name}-seed{args.seed}")
    try:
        with progress(sys.stderr if args.json else sys.stdout) if first else nullcontext(quiet) as on_event:
            done = fit(
                task.network,
                data,
                task.recipe,
                out=out,
                seed=args.seed,
                device=args.device,
                input=task.input,
                init=args.init,
                resume=args.resume,
                execution=execution_of(args, save_every_s=save_every_s, tensorboard=args.tensorboard),
                on_event=on_event,
            )
    except Stopped as stop:
        if first:
            with suppress(OSError):  # the terminal may be closed
                say(f"convatlas: {stop}; to continue:", f"  {resume_command(args, out)}", file=sys.stderr)
        return 128 + signal.Signals(stop.signum)
    except OSError as error:  # of a file or the machine: `progress` keeps what the output raises
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        raise UserError(what, "continue with --resume once that is mended") from error
    except Unwritable as error:
        then = [f"  {resume_command(args, out)}"] if (out / "run.json").exists() else []
        say(f"convatlas: {error}{'; then:' * bool(then)}", *then, file=sys.stderr)
        return 2
    except Diverged as error:
        if first:
            say(f"convatlas: {error}", file=sys.stderr)
        return 1
    if not first:
        return 0
    epochs = done.epochs()
    if not epochs:
        raise UserError(
            f"{out} is trained, but its log.jsonl is damaged or missing",
            f"`convatlas evaluate {out}` prints its accuracy",
        )
    judged = held_out(epochs[-1])
    best = max(epochs, key=lambda line: line[judged]["top1"]) if judged == "val" else None
    if args.json:
        record: dict[str, Any] = {"run": str(out), "network": task.network, "last": epochs[-1], "best": best}
        print_json(record | {"departures": done.recipe.departures})
    else:
        say(*summary(out, epochs[-1], best, args.data))
    return 0


def plan(args: argparse.Namespace, task: Task) -> int:
    """What the run would take."""
    for flag in ("init", "resume"):
        if getattr(args, flag):
            raise UserError(f"--plan and --{flag} exclude each other: a plan starts nothing", "give one of them")
    from ..catalogue import find
    from ..report.plan import report
    from ..report.progress import progress
    from ..train.plan import plan_training

    with progress(sys.stderr) as on_event:
        found = plan_training(
            find(task.network),
            source.load(args),
            task.recipe,
            seed=args.seed,
            device=args.device,
            execution=execution_of(args),
            input=task.input,
            on_event=on_event,
        )
    planned = report(found)
    print(planned.json() if args.json else planned.text(terminal_width()))
    return 0


def execution_of(args: argparse.Namespace, **more: Any) -> Execution:
    from ..train.execution import Execution

    return Execution(
        precision=args.precision,
        micro_batch=args.micro_batch,
        segments=args.segments,
        compile=args.compile,
        deterministic=args.deterministic,
        graph=args.graph,
        sync_bn=args.sync_bn,
        workers=args.workers,
        **more,
    )


def resume_command(args: argparse.Namespace, out: Path) -> str:
    """The command that continues the run: the same options (run.json has the machine's), --out and --resume."""
    words = ["convatlas", "train", args.network, "--data", args.data]
    usual = {"bad": "fail", "max_megapixels": source.MEGAPIXELS, "seed": 0, "device": "auto"}
    for flag in ("val", "bad", "max_megapixels", "recipe", "epochs", "batch", "input", "seed", "device"):
        value = getattr(args, flag)
        if value not in (None, usual.get(flag)):
            words += [f"--{flag.replace('_', '-')}", str(value)]
    for setting in args.set:
        words += ["--set", setting]
    return command([*words, *(["--json"] if args.json else []), "--out", str(out), "--resume"])


def summary(out: Path, last: dict[str, Any], best: dict[str, Any] | None, source: str) -> tuple[str, str]:
    then = command(["convatlas", "evaluate", str(out), "--data", source])
    name = held_out(last)
    chosen = f"; best {best[name]['top1']:.2%} after epoch {best['epoch']}" if best else ""
    files = f"run.json, log.jsonl, curves.png, last.safetensors{', best.safetensors' if best else ''}"
    return (
        f"after {last['epoch']} epochs: {name} top-1 {last[name]['top1']:.2%}, loss {last[name]['loss']:.4f}{chosen}",
        f"{out}: {files}; next: {then}",
    )

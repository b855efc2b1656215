"""`convatlas train`: a network, data and a recipe in; a run folder out."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..recipe import Recipe, with_batch, with_epochs, with_settings
from . import process, source
from .output import parse_input, print_json

if TYPE_CHECKING:
    from ..catalogue import Variant
    from ..train.execution import Execution

HELP = "train a network on your images by its paper's recipe"
STATUS = """exit status: 0 trained; 1 the loss is not finite any more (the last checkpoint is kept); 2 something to mend
that is said in one line; 130 stopped by Ctrl-C (143: by SIGTERM; 129: by SIGHUP, its terminal is gone) and saved:
--resume goes on"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = STATUS
    add_task(parser)
    parser.add_argument("--epochs", metavar="N", type=int, help="number of epochs; the schedule is scaled to match")
    parser.add_argument("--batch", metavar="N", type=int, help="global batch size; the learning rate scales linearly")
    parser.add_argument("--out", metavar="DIR", help="the run folder (default runs/NETWORK-DATA-seedN)")
    parser.add_argument(
        "--init", metavar="RUN", help="a run to begin with the weights of: tensors of the same name and shape"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder, with the same options")
    parser.add_argument(
        "--save-every", metavar="S", type=float, default=600.0, help="seconds between saves within an epoch (600)"
    )
    parser.add_argument("--tensorboard", action="store_true", help="write the log for TensorBoard as well")
    parser.add_argument("--json", action="store_true", help="print the result as JSON; progress goes to stderr")


def add_task(parser: argparse.ArgumentParser) -> None:
    """What is trained, on what, by which recipe, and how this machine does it."""
    parser.add_argument("network", metavar="NETWORK", help="a network, as `list` or its paper spells it")
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        required=True,
        help="digits, mnist:DIR, cifar10:DIR, folder:DIR, shards:DIR ... or DIR",
    )
    source.add_bad(parser)
    parser.add_argument("--recipe", metavar="R", help="a recipe by name (default: the network's own)")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="change a setting of the recipe (repeatable): lr=0.05, schedule=cosine, warmup.epochs=5",
    )
    parser.add_argument(
        "--input", metavar="CxHxW", help="image size (default: the network's, with the data's channels)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of weights, order, augmentation (default 0)")
    parser.add_argument(
        "--device", metavar="D", default="auto", help="auto, cpu, cuda, cuda:1 (default auto: a GPU if any)"
    )
    parser.add_argument(
        "--precision", metavar="P", default="auto", help="auto, float32, bfloat16 (default auto: as the device can)"
    )
    parser.add_argument(
        "--micro-batch", metavar="N", type=int, default=0, help="images passed at once (default: as the memory holds)"
    )
    parser.add_argument(
        "--segments", metavar="N", type=int, default=0, help="compute N runs of layers again, to keep less (default 0)"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile the network: for long runs")
    parser.add_argument(
        "--workers", metavar="N", type=int, help="threads that read and decode ahead (default: the cores; 0: none)"
    )
    parser.add_argument("--sync-bn", action="store_true", help="batch norm's statistics over all processes (GPUs)")


def run(args: argparse.Namespace) -> int:
    from ..catalogue import find
    from ..files.atomic import Unwritable
    from ..runs.folder import open_run
    from ..train.fit import Diverged, Stopped, fit
    from ..train.progress import progress, quiet

    first = not process()
    variant = find(args.network)
    recipe = choose_recipe(variant, args, args.epochs, args.batch)
    data = source.load(args)
    out = Path(args.out or f"runs/{variant.name}-{data.name}-seed{args.seed}")
    try:
        with progress(sys.stderr if args.json else sys.stdout) if first else nullcontext(quiet) as on_event:
            done = fit(
                variant,
                data,
                recipe,
                out=out,
                seed=args.seed,
                device=args.device,
                input=parse_input(args.input) if args.input else None,
                init=open_run(args.init) if args.init else None,
                resume=args.resume,
                execution=execution_of(args),
                on_event=on_event,
            )
    except Stopped as stop:
        if first:
            with suppress(OSError):  # of a terminal that is gone
                print(f"convatlas: {stop}; to go on:\n  {resume_command(args, out)}", file=sys.stderr)
        return 128 + signal.Signals(stop.signum)
    except Unwritable as error:
        then = f"; then:\n  {resume_command(args, out)}" if (out / "run.json").exists() else ""
        print(f"convatlas: {error}{then}", file=sys.stderr)
        return 2
    except Diverged as error:
        if first:
            print(f"convatlas: {error}", file=sys.stderr)
        return 1
    if not first:
        return 0
    epochs = done.epochs()
    if not epochs:
        raise UserError(
            f"{out} is trained, but its log.jsonl was damaged or taken away",
            f"`convatlas evaluate {out}` tells what it comes to",
        )
    best = max(epochs, key=lambda line: line["test"]["top1"])
    if args.json:
        record: dict[str, Any] = {"run": str(out), "network": variant.name, "last": epochs[-1], "best": best}
        print_json(record | {"departures": done.recipe.departures})
    else:
        print(summary(out, epochs[-1], best, args.data))
    return 0


def execution_of(args: argparse.Namespace) -> Execution:
    from ..train.execution import Execution

    return Execution(
        precision=args.precision,
        micro_batch=args.micro_batch,
        segments=args.segments,
        compile=args.compile,
        sync_bn=args.sync_bn,
        save_every_s=getattr(args, "save_every", Execution.save_every_s),
        tensorboard=getattr(args, "tensorboard", False),
        workers=getattr(args, "workers", None),
    )


def choose_recipe(
    variant: Variant, args: argparse.Namespace, epochs: int | None = None, batch: int | None = None
) -> Recipe:
    from ..recipes import WITHOUT, find_recipe

    name = args.recipe or variant.recipe
    if name is None:
        why = WITHOUT[variant.family]
        raise UserError(f"{variant.name} has no recipe of its own ({why})", "give one, such as --recipe resnet_cifar")
    recipe = find_recipe(name)
    if epochs is not None:
        recipe = with_epochs(recipe, epochs)
    if batch is not None:
        recipe = with_batch(recipe, batch)
    return with_settings(recipe, args.set)


def resume_command(args: argparse.Namespace, out: Path) -> str:
    """The command that goes on with the run: the same options (run.json keeps the engine's), the folder, --resume."""
    words = ["convatlas", "train", args.network, "--data", args.data]
    usual = {"bad": "fail", "max_megapixels": source.MEGAPIXELS, "seed": 0, "device": "auto"}
    for flag in ("bad", "max_megapixels", "recipe", "epochs", "batch", "input", "seed", "device"):
        value = getattr(args, flag)
        if value not in (None, usual.get(flag)):
            words += [f"--{flag.replace('_', '-')}", str(value)]
    for setting in args.set:
        words += ["--set", setting]
    return shlex.join([*words, *(["--json"] if args.json else []), "--out", str(out), "--resume"])


def summary(out: Path, last: dict[str, Any], best: dict[str, Any], source: str) -> str:
    command = shlex.join(["convatlas", "evaluate", str(out), "--data", source])
    return (
        f"after {last['epoch']} epochs: test top-1 {last['test']['top1']:.2%}, loss {last['test']['loss']:.4f}; "
        f"best {best['test']['top1']:.2%} after epoch {best['epoch']} (chosen on these test images)\n"
        f"{out}: run.json, log.jsonl, curves.png, last.safetensors, best.safetensors; next: {command}"
    )

"""`convatlas chart`: the lectures' figures, from the catalogue and from result files."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError
from ..files.figure import FORMATS
from . import checks
from .output import add_formats, print_report, say, write_file

HELP = "the lectures' figures, from the catalogue and result files"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas chart winners --out winners.svg"
    parser.add_argument(
        "name",
        metavar="NAME",
        help="the chart; `convatlas chart list` names them all; a file: every chart that it can be drawn as",
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="*", type=Path, help="what the chart is drawn from, if it takes any"
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        type=Path,
        help="the picture (.png, .svg, .pdf), or its points (.csv); default NAME.png",
    )
    parser.add_argument("--networks", metavar="PATTERN", help="only networks of this name, such as 'resnet*'")
    parser.add_argument("--dataset", metavar="D", help="accuracies on this data set (default imagenet)")
    add_formats(parser)


def run(args: argparse.Namespace) -> None:
    from ..report.chart import LISTED, chart, listing, points
    from ..report.chart.frame import Asked
    from .measure import progress

    if args.name == "list":
        return print_report(listing(), args)
    if args.name not in {it.name for it in LISTED} and Path(args.name).exists():
        return every(args)
    printed = args.json or args.csv or args.md
    out = None if printed and args.out is None else written(args.out or Path(f"{args.name}.png"))
    with progress() as tell:
        drawn = chart(args.name, Asked(tuple(args.files), args.networks, args.dataset, tell))
    table = points.report(drawn)
    if printed:
        print_report(table, args)
    if out is None:
        return None
    if out.suffix.lower() == ".csv":
        write_file(out, table.csv() + "\n")
        return None if printed else say(out)
    from ..report.chart.draw import draw

    unwritten = draw(drawn, out)
    if not printed:
        say(out)
        if unwritten:
            say(f"Names without room: {', '.join(unwritten)}; --out {out.stem}.csv has all.")
    return None


def every(args: argparse.Namespace) -> None:
    """Draws each chart that the files can be drawn as. Raises UserError where they are none's."""
    from ..report.chart import of_files
    from ..report.chart.draw import draw
    from ..report.chart.frame import Asked

    if args.out or args.json or args.csv or args.md or args.dataset:
        raise UserError("files alone are drawn as several charts", "name one: convatlas chart NAME FILES")
    made, refused = of_files(Asked((Path(args.name), *args.files), args.networks))
    if not made:
        raise UserError(next(iter(refused.values())))
    for name, why in refused.items():
        say(f"no {name}: {why}")
    for chart in made:
        out = Path(f"{chart.name}.png")
        draw(chart, out)
        say(out)


def written(out: Path) -> Path:
    """Raises UserError for another format than a picture's or CSV."""
    if out.suffix.lower() == ".csv":
        return out
    if out.suffix.lower() not in FORMATS:
        raise UserError(
            f"--out {out} is neither a picture nor a table", f"end its name in {', '.join(FORMATS)} or .csv"
        )
    return checks.picture("--out", out)

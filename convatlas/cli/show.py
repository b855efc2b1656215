"""`convatlas show`: one network beside its paper: its file, its claims, its rows and totals."""

from __future__ import annotations

import argparse
import re
from decimal import Decimal
from math import prod
from typing import Any, NamedTuple

from ..account.claims import holds
from ..account.rows import LEVELS, Account, Row
from ..catalogue import Claim
from ..errors import UserError
from ..tables import claims, entry, load
from .claims import cells as claim_cells
from .claims import record as claim_record
from .output import csv_table, markdown_table, parse_input, print_json, print_table, size

HELP = "show one network: paper, file, claims, and what each layer costs"
HEADERS = ("layer", "operation", "output", "kernel", "weights", "parameters", "multiply-adds", "values", "bytes")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a network, as `list` or its paper spells it")
    parser.add_argument("--input", metavar="CxHxW", help="image size (default: the paper's)")
    parser.add_argument("--classes", metavar="N", type=int, help="number of classes (default: the paper's)")
    parser.add_argument("--batch", metavar="N", type=int, default=1, help="images at a time (default 1)")
    parser.add_argument("--level", choices=LEVELS, default="layer", help="how fine the rows are (default layer)")
    parser.add_argument(
        "--under", metavar="MACS", help="say the largest square image that takes at most so many multiply-adds: 1GMAC"
    )
    parser.add_argument(
        "--convention", metavar="TOOL", help="add what this counter makes of it: fvcore, thop ... (see `reconcile`)"
    )
    parser.add_argument("--epoch", metavar="N", type=int, help="add what training on so many images costs")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print the rows as CSV")
    form.add_argument("--md", action="store_true", help="print Markdown")


def run(args: argparse.Namespace) -> None:
    record = entry(args.name)
    if args.under is not None:
        show_under(record["name"], args)
        return
    stock = args.input is None and args.classes is None and args.batch == 1
    counts = load(record["name"]) if stock else recount(record["name"], args)
    rows = counts.table(args.level)
    if args.epoch is not None and args.epoch < 1:
        raise UserError(f"--epoch {args.epoch} is no number of images; give a whole number of at least 1")
    told = by_convention(record["name"], args) if args.convention else None
    if args.csv:
        print(csv_table(HEADERS, (cells(r, counts, exact=True) for r in rows)))
    elif args.json:
        print_json(to_json(record, counts, rows, stock) | ({"convention": told._asdict()} if told else {}))
    elif args.md:
        print(f"# {record['name']}\n\n{heading(record)}\n")
        print(markdown_table(HEADERS, (cells(r, counts) for r in (input_row(counts), *rows)), left=4), end="\n\n")
        print("\n".join(summary(counts, told, args.epoch)))
    else:
        print(heading(record))
        if stock:
            print_claims(claims(record["name"]), counts)
        print_table(HEADERS, (cells(r, counts) for r in (input_row(counts), *rows)), left=4)
        print("\n".join(summary(counts, told, args.epoch)))


def recount(name: str, args: argparse.Namespace) -> Account:
    from ..account import account

    options = {} if args.classes is None else {"classes": args.classes}
    return account(name, input=args.input and parse_input(args.input), batch=args.batch, **options)


class Told(NamedTuple):
    tool: str
    unit: str
    total: int


def by_convention(name: str, args: argparse.Namespace) -> Told:
    """What another counter says of one image."""
    from ..account.reconcile import reconcile

    if args.batch != 1:
        raise UserError(f"a convention counts one image; leave --batch {args.batch} out")
    options = {} if args.classes is None else {"classes": args.classes}
    found = reconcile(name, args.input and parse_input(args.input), [args.convention], **options)[args.convention]
    return Told(found.tool, found.unit, found.total)


def show_under(name: str, args: argparse.Namespace) -> None:
    """The largest square image within a budget, and what the next larger one takes."""
    from ..account.symbolic import largest_input

    if args.input is not None:
        raise UserError(f"--under finds the size of the image itself; leave --input {args.input} out")
    if args.csv or args.md:
        raise UserError("--under prints no table; leave --csv and --md out")
    fit = largest_input(name, parse_macs(args.under), batch=args.batch, classes=args.classes)
    if args.json:
        print_json({"name": name, "under": parse_macs(args.under), **vars(fit)})
        return
    images = "" if args.batch == 1 else f", {args.batch} images at a time"
    print(f"{name} under {args.under}{images}:")
    print(f"  {fit.side}x{fit.side} pixels take {fit.macs:,} multiply-adds")
    print(f"  {fit.next_side}x{fit.next_side} pixels would take {fit.next_macs:,}")


def parse_macs(text: str) -> int:
    """ "1GMAC", "569M", "300_000_000" -> multiply-adds."""
    found = re.fullmatch(r"([\d_,]*\d(?:\.\d+)?) ?([KMGT]?)(?:MACs?)?", text, re.IGNORECASE)
    if not found:
        raise UserError(f"{text!r} is no number of multiply-adds; write one such as 1GMAC, 569M or 300000000")
    return int(Decimal(re.sub("[_,]", "", found[1])) * 1000 ** " KMGT".index(found[2].upper() or " "))


def heading(record: dict[str, Any]) -> str:
    paper = record["paper"]
    lines = [
        f"{record['name']}: {paper['title']} ({paper['authors']}, {paper['year']}), {paper['url']}",
        *([record["note"]] if record["note"] else []),
        f"file {record['file']}" + (f", recipe {record['recipe']}" if record["recipe"] else ""),
    ]
    return "\n".join(lines)


def print_claims(made: list[Claim], counts: Account) -> None:
    """The claims about the whole network; those about single layers in a line (`convatlas claims` has them all)."""
    whole = [c for c in made if " " not in c.what]
    if whole:
        print_table(("claim", "printed", "counted", "", "where"), (claim_cells(c, counts) for c in whole), left=5)
    layers = [c for c in made if " " in c.what]
    if layers:
        held = sum(bool(holds(c, counts)) for c in layers)
        print(f"{held} of {len(layers)} figures printed of single layers hold (`convatlas claims {counts.name}`).")


def input_row(counts: Account) -> Row:
    return Row("input", "", counts.input, activations=counts.batch * prod(counts.input))


def cells(row: Row, counts: Account, exact: bool = False) -> tuple[str, ...]:
    """One row's columns; with `exact`, numbers without separators and units, for programs."""
    number = str if exact else "{:,}".format
    stored = row.activations * counts.value_bytes
    return (
        row.path,
        row.op,
        size(row.shape),
        geometry(row),
        number(row.weights),
        number(row.params),
        number(row.macs),
        number(row.activations),
        number(stored),
    )


def geometry(row: Row) -> str:
    """Kernel/stride/padding as papers write them: "3x3/2 pad 1", with the groups where there are several."""
    if not row.kernel:
        return ""
    pad = row.padding if isinstance(row.padding, str) else _short(row.padding)
    groups = f" groups {row.groups}" if row.groups > 1 else ""
    return f"{size(row.kernel)}/{_short(row.stride)} pad {pad}{groups}"


def _short(pair: tuple[int, ...]) -> str:
    return str(pair[0]) if len(set(pair)) == 1 else size(pair)


def summary(counts: Account, told: Told | None = None, epoch: int | None = None) -> list[str]:
    t = counts.totals
    stored, kept = t.activations * counts.value_bytes, t.pointwise_activations * counts.value_bytes
    images = "an image" if counts.batch == 1 else f"{counts.batch} images"
    lines = [
        f"For {images} of {size(counts.input)}:",
        f"  parameters     {t.params:,} ({t.weights:,} without biases), {t.params * counts.value_bytes / 1e6:,.2f} MB",
        f"  multiply-adds  {t.macs:,} (convolutions and matrix products; no biases, batch norm, pooling, activations)",
        f"                 {t.training_macs:,} in training, forward and backward; depth {counts.depth}",
        f"  activations    {t.activations:,} values, {stored / 1e6:,.2f} MB (the input and every layer's output;",
        f"                 outputs of ReLU, batch norm, additions kept as well: {kept / 1e6:,.2f} MB more)",
    ]
    if epoch:
        lines.insert(3, f"                 {t.training_macs // counts.batch * epoch:,} in an epoch of {epoch:,} images")
    if told:
        lines.append(f"  convention     {told.total:,} {told.unit}, as {told.tool} counts (`reconcile` says why)")
    for path, n in counts.idle:
        lines.append(f"  not counted    {path}: {n:,} parameters that this pass does not use")
    if counts.uncounted:
        lines.append(f"  PARTIAL: no rule for {', '.join(counts.uncounted)}")
    return lines


def to_json(record: dict[str, Any], counts: Account, rows: tuple[Row, ...], stock: bool) -> dict[str, Any]:
    return {
        **{k: record[k] for k in ("name", "family", "file", "paper", "note", "recipe")},
        **({"claims": [claim_record(record["name"], c, counts) for c in claims(record["name"])]} if stock else {}),
        "input": counts.input,
        "batch": counts.batch,
        "totals": counts.to_json()["totals"],
        "idle": dict(counts.idle),
        "uncounted": counts.uncounted,
        "rows": [vars(r) | {"params": r.params, "bytes": r.activations * counts.value_bytes} for r in rows],
    }

"""The queue of GPU measurements, advanced a few minutes at a time.

    python benchmarks/gpu/run.py --minutes 13 --out DIR --data CIFAR10
    python benchmarks/gpu/run.py --status
    python benchmarks/gpu/run.py --minutes 13 --out DIR --device cpu --dry-run

Runs the entries (entries.py) that are not finished, in order, and writes DIR/NAME.json for each that finishes. An entry
whose estimated duration does not fit in the minutes left is not begun, and those after it that fit are; a long training
run is stopped in time, with a checkpoint in DIR/runs, and continued by the next session. A session that is cut off
loses only the entry at hand. README.md says more.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from entries import ENTRIES
from schedules import progress
from session import ROOT, Entry, Session, Skipped, Unfinished, describe_machine, few_threads

from convatlas.errors import UserError
from convatlas.files.atomic import clean, write_text
from convatlas.machine.device import choose_device
from convatlas.report.tables import Report, Table, label, number, prose

KEPT = ROOT / "benchmarks" / "results" / "gpu"


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.status:
        print(status(args.out).text(args.width))
        return 0
    session = Session(
        out=args.out.resolve(),
        deadline=time.monotonic() + 60 * args.minutes,
        device=choose_device(args.device),
        dry_run=args.dry_run,
        data=args.data,
        airbench=args.airbench,
        airbench_muon=args.airbench_muon,
        graph=not args.no_graph,
    )
    few_threads(session.dry_run)
    session.out.mkdir(parents=True, exist_ok=True)
    clean(session.out)
    chosen = [entry for entry in ENTRIES if not args.only or entry.name in args.only]
    advance(chosen, session, describe_machine(session.device, args.commit), command(args), again=args.again)
    return 0


def command(args: argparse.Namespace) -> str:
    """What to run for the same figures; the paths, which differ from machine to machine, by what they are."""
    words = ["python benchmarks/gpu/run.py --out DIR"]
    words += ["--data CIFAR10"] if args.data else []
    words += ["--airbench FILE"] if args.airbench else []
    words += ["--airbench-muon FILE"] if args.airbench_muon else []
    words += ["--no-graph"] if args.no_graph else []
    words += [f"--device {args.device}"] + (["--dry-run"] if args.dry_run else [])
    return " ".join(words)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=13.0, help="duration of this session (default 13)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu", help="results and training runs")
    parser.add_argument("--data", help="CIFAR-10, for what trains on it")
    parser.add_argument("--airbench", type=Path, metavar="FILE", help="the program airbench94.py")
    parser.add_argument("--airbench-muon", type=Path, metavar="FILE", help="the program airbench94_muon.py")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-graph", action="store_true", help="train full schedules without CUDA graphs")
    parser.add_argument("--dry-run", action="store_true", help="a few small steps of everything, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=[e.name for e in ENTRIES], metavar="NAME", help="of the queue")
    parser.add_argument("--again", action="store_true", help="run what is finished or has failed once more")
    parser.add_argument("--commit", help="the commit that is measured, where the source tree has no git")
    parser.add_argument("--status", action="store_true", help="print what is finished and what is not")
    parser.add_argument("--width", type=int, default=120, help="of the table that --status prints")
    return parser


def advance(
    entries: Sequence[Entry], session: Session, machine: dict[str, Any], command: str, again: bool = False
) -> None:
    """Runs the unfinished entries in order, `again` the finished ones, too."""
    left_out: list[str] = []
    for entry in entries:
        path = session.out / f"{entry.name}.json"
        found = record_of(entry, session.out, session.dry_run)
        if found and not again:
            continue
        if session.seconds_left() < 60 * entry.minutes and not session.dry_run:
            left_out.append(f"{entry.name} ({entry.minutes:g} min)")
            continue
        print(f"{entry.name}: {entry.what}", flush=True)
        began = time.monotonic()
        try:
            result = entry.measure(session)
        except Skipped as why:
            print(f"{entry.name}: skipped: {why}", flush=True)
            continue
        except Unfinished as why:
            print(f"{entry.name}: to be continued: {why}", flush=True)
            return
        except Exception as error:
            traceback.print_exc()
            result = {"failed": f"{type(error).__name__}: {error}", "headline": f"failed: {type(error).__name__}"}
        record = {
            "entry": entry.name,
            "what": entry.what,
            "dry_run": session.dry_run,
            "machine": machine,
            "command": f"{command} --only {entry.name}",
            "seconds": round(time.monotonic() - began, 1),
            **result,
        }
        write_text(path, json.dumps(record, indent=1) + "\n")
        print(f"{entry.name}: {result['headline']}", flush=True)
        if "failed" in result and not works(session):
            print("the GPU no longer works in this process: start the next session", flush=True)
            return
    if left_out:
        print(f"not begun, as the minutes left are too few: {', '.join(left_out)}", flush=True)


def works(session: Session) -> bool:
    """Whether the device still computes after a failure; some errors of a GPU end it for the whole process."""
    try:
        session.synchronize()
    except RuntimeError:
        return False
    return True


def record_of(entry: Entry, out: Path, dry_run: bool = False) -> dict[str, Any] | None:
    """The finished entry's record, from `out` or from those that are kept; a dry run counts only for dry runs."""
    for folder in (out,) if dry_run else (out, KEPT):
        path = folder / f"{entry.name}.json"
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["dry_run"] == dry_run:
                return record
    return None


def status(out: Path) -> Report:
    rows = []
    for entry in ENTRIES:
        record = record_of(entry, out)
        state, machine, result = "to do", None, None
        if record:
            state = "failed" if "failed" in record else "done"
            machine, result = record["machine"].get("gpu", record["machine"]["processor"]), record["headline"]
        elif entry.resumable:
            network, _, seed = entry.name.removeprefix("schedule_").rpartition("_seed")
            state = progress(network, int(seed), out) or state
        minutes = None if entry.resumable else entry.minutes
        rows.append((entry.name, state, minutes, machine, result))
    columns = (label("entry"), label("state"), number("minutes"), label("machine"), prose("result"))
    done = sum(row[1] == "done" for row in rows)
    return Report(Table("entries", columns, rows), after=(f"\n{done} of {len(rows)} done",))


if __name__ == "__main__":  # not in the processes that airbench.py spawns
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"run.py: {error}")

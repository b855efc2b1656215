"""`convatlas data pack` and `data scan`: pack images for training, and scan them for problems."""

from __future__ import annotations

import argparse
import sys

from . import checks, source
from .output import add_formats, command, print_json, print_report, say

HELP = "scan a set of images for problems; pack it for training"
STATUS = "exit status of scan: 0 no problems; 1 problems found; 2 it could not be scanned"
NETWORK = "mobilenet_v2"  # for the suggested next command: small, and works for any number of classes
SOURCES = "an image folder, list:DIR, shards:DIR, parquet:DIR or pack:DIR"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas data scan photos"
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")
    pack = actions.add_parser(
        "pack",
        help="write the images resized into a few large files that train --data reads fast",
        description="Write the images of a set with their short side scaled, into a few large files with checksums: "
        "JPEG in WebDataset shards, or raw pixels. `train --data` reads them without looking for bad files again.",
        epilog="example: convatlas data pack photos --out packed --size 256",
    )
    pack.add_argument("data", metavar="SOURCE", help=SOURCES)
    pack.add_argument("--out", metavar="DIR", required=True, help="folder of the pack; an interrupted one is continued")
    pack.add_argument("--size", metavar="PX", type=int, default=256, help="short side of larger images (default 256)")
    pack.add_argument(
        "--format",
        choices=("jpeg", "raw"),
        default="jpeg",
        help="jpeg (default) is small; raw is larger and needs no decoding",
    )
    pack.add_argument("--quality", metavar="Q", type=int, default=90, help="of JPEG, 1 to 95 (default 90)")
    source.add_bad(pack)
    scan = actions.add_parser(
        "scan",
        help="list every bad, tiny, duplicate or mislabelled image; exit status 1 if there are any",
        description="List the images of a set that are broken, tiny, duplicates (identical files or near-identical "
        "pictures), in both training and test, or in two classes; and verify the checksums of packs.",
        epilog=f"example: convatlas data scan photos\n{STATUS}",
    )
    scan.add_argument("data", metavar="SOURCE", help=SOURCES)
    scan.add_argument(
        "--min-side", metavar="PX", type=int, default=32, help="images with a shorter side are tiny (default 32)"
    )
    source.add_max(scan)
    add_formats(scan)
    pack.add_argument("--json", action="store_true", help="print JSON")
    for action in (pack, scan):
        action.add_argument(
            "--seed", metavar="N", type=int, default=0, help="seed of the split, if the set has none (default 0)"
        )
        action.add_argument("--workers", metavar="N", type=int, help="threads (default: one per core)")


def run(args: argparse.Namespace) -> int:
    checks.data_source(args.data)
    return run_pack(args) if args.action == "pack" else run_scan(args)


def run_pack(args: argparse.Namespace) -> int:
    from ..data.sources.pack import pack

    data = source.load(args, seed=args.seed)
    record = pack(
        data,
        args.out,
        size=args.size,
        format=args.format,
        quality=args.quality,
        workers=args.workers,
        progress=source.bar("packing"),
        on_note=lambda text: say(text, file=sys.stderr),
    )
    if args.json:
        print_json({"out": args.out, **record})
        return 0
    shards = [shard for part in record["splits"].values() for shard in part["shards"]]
    images = ", ".join(f"{part['images']:,} {name}" for name, part in record["splits"].items())
    size = sum(shard["bytes"] for shard in shards) / 1e6
    then = command(["convatlas", "train", NETWORK, "--data", args.out])
    say(f"{args.out}: {images} images, {len(shards)} shards, {size:,.1f} MB; next: {then}")
    return 0


def run_scan(args: argparse.Namespace) -> int:
    from ..data.check.scan import scan
    from ..report.scan import report

    found = scan(
        args.data,
        seed=args.seed,
        min_side=args.min_side,
        max_pixels=source.max_pixels(args),
        workers=args.workers,
        progress=source.bar("scanning"),
    )
    print_report(report(found), args)
    return 1 if found.findings else 0

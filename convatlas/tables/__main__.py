"""Recounts every variant and writes tables/: `python -m convatlas.tables`."""

from rich.progress import track

from ..accounting import account
from ..catalogue import variants
from . import FOLDER, index_record, index_text
from .rows import write


def main() -> None:
    records = {}
    for name, variant in track(variants().items(), description="counting"):
        counted = account(variant)
        records[name] = index_record(variant, counted)
        (FOLDER / f"{name}.csv").write_text(write(counted.rows), encoding="utf-8")
    (FOLDER / "index.json").write_text(index_text(records), encoding="utf-8")
    for file in FOLDER.glob("*.csv"):
        if file.stem not in records:
            file.unlink()


if __name__ == "__main__":
    main()

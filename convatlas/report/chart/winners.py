"""The winners of the ILSVRC by year: the lectures' "revolution of depth"."""

from __future__ import annotations

from .frame import Asked, Chart, Line, Panel, Point
from .published import printed

GROUPS = {"shallow": "features made by hand", "networks": "networks"}


def winners(_: Asked) -> Chart:
    """Top-5 error of each year's best entries, with the line of a person; below, their depth."""
    rows, human = printed()["winners"], printed()["human"]
    errors = [
        Point(
            row["entry"],
            category(row),
            row["top5_err"],
            row["source"],
            label=f"{row['top5_err']:.3g}",
            group=GROUPS[row["how"]],
        )
        for row in rows
    ]
    depths = [
        Point(
            row["entry"],
            category(row),
            row["layers"],
            row["source"],
            label=str(row["layers"]),
            group=GROUPS[row["how"]],
        )
        for row in rows
        if "layers" in row
    ]
    person = Line(f"a person: {human['top5_err']}", human["source"], human["top5_err"])
    return Chart(
        "winners",
        "The winners of ILSVRC by year: error and depth",
        (
            Panel("", "top-5 error (%)", tuple(errors), "columns", lines=(person,), height=2.2),
            Panel("", "layers", tuple(depths), "columns"),
        ),
        "Image classification without outside data, on each challenge's test images; entries of networks average "
        "several. Russakovsky et al. (2015) and the entries' papers.",
        stacked=True,
    )


def category(row: dict[str, object]) -> str:
    """The year, and the entry below it in short lines."""
    entry = str(row["entry"]).replace(" / ", " /\n").replace("-", "-\n")
    return f"{row['year']}\n{entry}"

"""A model written as one file of convatlas, with its network, preprocessing and classes, and a card beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..catalogue import find
from ..files.atomic import write_text
from ..runs import checkpoint
from .model import Model


def convert(model: Model, out: str | Path) -> Path:
    """Writes OUT.safetensors, which `load` and every MODEL take, and its model card, OUT.md; returns the first."""
    file = Path(out).with_suffix(".safetensors")
    built = {name: value for name, value in model.options.items() if name != "channels"}
    state = {
        "network": model.network,
        "options": {**built, "input": list(model.preprocess.input), "classes": len(model.classes)},
        "preprocess": model.preprocess.to_json(),
        "classes": list(model.classes),
        "eps": dict(model.eps),
    }
    tensors = {**model.net.state_dict()}
    measured = {f"{checkpoint.NORMALIZER}{name}": tensor for name, tensor in model.normalizer.tensors.items()}
    checkpoint.save(file, tensors | measured, state)
    write_text(file.with_suffix(".md"), card(model, file, f"`convatlas predict {file.name} IMAGE` uses it."))
    return file


def card(model: Model, file: Path, use: str, more: Sequence[str] = ()) -> str:
    """The model card, in Markdown: what the weights are, whose, how to feed them, and what was done to them.

    `more` are further points; `use`, a sentence, says how the file is used.
    """
    variant, row = find(model.network), model.published
    assert variant.paper is not None
    paper = variant.paper
    shown = model.preprocess
    lines = [
        f"# {file.name}",
        "",
        f"- network: {model.network} ({variant.file}), {paper.authors}, {paper.year}: [{paper.title}]({paper.url})",
        f"- weights: {source_of(model)}{f', {row.url}' if row else ''}",
        f"- licence: {licence_of(model)}",
        f"- classes: {len(model.classes)} ({', '.join(model.classes[:3])} ...)",
        f"- input: {'x'.join(map(str, shown.input))} {shown.order}, {shown.resize_mode}"
        + (f" from {shown.resize} px" if shown.resize else "")
        + f", {shown.interpolation}; (pixels / {shown.scale:g} - mean) / std, mean {listed(shown.mean)}, "
        f"std {listed(shown.std)}",
    ]
    if row and row.top1:
        top5 = f", top-5 {row.top5}%" if row.top5 else ""
        lines.append(f"- published accuracy: top-1 {row.top1}%{top5}, {row.protocol}; not measured here")
    lines += [f"- {note}" for note in (*model.notes, *more)]
    lines += ["", use]
    return "\n".join(lines) + "\n"


def source_of(model: Model) -> str:
    """Where the weights come from: what they are published as, or their file."""
    return model.published.name if model.published else Path(model.source).name


def licence_of(model: Model) -> str:
    return (model.published and model.published.licence) or "as their source says"


def listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)

"""What a training run would take."""

from __future__ import annotations

from ..train.plan import CHECKPOINTS, Plan
from .progress import duration
from .tables import Report, Table, label, prose


def report(plan: Plan) -> Report:
    low, high = plan.step_s_spread
    memory = "not predicted with --segments" if plan.memory_bytes is None else megabytes(plan.memory_bytes)
    rows = [
        ("epochs", f"{plan.epochs:,}"),
        ("steps", f"{plan.total_steps:,}, {plan.steps:,} an epoch, of {plan.batch:,} images"),
        ("memory", f"{memory} at the peak of a step ({plan.execution['micro_batch']:,} images per pass)"),
        ("disk", f"{megabytes(plan.disk_bytes)}: {CHECKPOINTS} checkpoints, and the best weights"),
        ("a step", f"{plan.step_s:.4g} s ({plan.measured} measured, quartiles {low:.4g} to {high:.4g})"),
        ("evaluation", f"{plan.evaluation_images_per_s:,.0f} images/s, {plan.held_out_images:,} images an epoch"),
        ("an epoch", duration(plan.epoch_s)),
        ("the run", duration(plan.total_s)),
    ]
    title = f"{plan.network} on {plan.data} ({plan.train_images:,} images), recipe {plan.recipe}"
    return Report(
        Table("plan", (label("what"), prose("predicted")), rows),
        before=(f"{title}, on {plan.device} in {plan.execution['precision']}",),
        after=("Nothing was trained or written. Memory is that of tensors; times are for this machine as it is now.",),
        record=plan.to_json(),
    )


def megabytes(n: int) -> str:
    return f"{n / 1e6:,.1f} MB"

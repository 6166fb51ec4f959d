"""The learning curve of a training: losses and validations by step, as a picture.

Read from the TensorBoard logs, which an interrupted training goes on writing where it stopped; a
step that was computed twice counts as it was the second time.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = dict[str, dict[int, float]]

LOSSES = {"loss": "all targets", "loss_next": "next item"}
VALIDATIONS = {"valid/recall@10": "recall@10", "valid/ndcg@10": "ndcg@10"}


def read_curve(folder: Path) -> Curve:
    """Everything that was logged into a folder, by name, then by step."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        name: {event.step: event.value for event in events.Scalars(name)}
        for name in events.Tags()["scalars"]
    }


def plot_curve(title: str, curve: Curve, file: Path) -> None:
    """Draw a curve into `file`, a PNG: losses on the left, validations on the right."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow, and only this picture needs it

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _lines(left, curve, LOSSES, "-")
    _lines(right, curve, VALIDATIONS, "o-")
    left.set(ylabel="training loss, nats per code")
    right.set(ylabel="validation, beam search", ylim=(0, None))
    figure.suptitle(title, fontsize=11)
    figure.savefig(file, dpi=110, format="png")


def _lines(axes: "Axes", curve: Curve, names: dict[str, str], style: str) -> None:
    for name, label in names.items():
        values = curve.get(name, {})
        axes.plot(list(values), list(values.values()), style, markersize=3, label=label)
    axes.set(xlabel="step")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)

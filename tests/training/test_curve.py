"""A learning curve holds what was logged, and becomes a picture."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from training.curve import plot_curve, read_curve


def test_a_curve_goes_on_where_an_interrupted_training_did(tmp_path: Path) -> None:
    """Two processes wrote two files; what both logged counts as the second one saw it."""
    for values in ({10: 4.0, 20: 3.0}, {20: 2.5, 30: 2.0}):
        writer = SummaryWriter(str(tmp_path))
        for step, value in values.items():
            writer.add_scalar("loss", value, step)
        writer.close()

    assert read_curve(tmp_path) == {"loss": {10: 4.0, 20: 2.5, 30: 2.0}}


def test_a_curve_is_drawn_with_what_there_is(tmp_path: Path) -> None:
    """A training too short to have logged a loss has one all the same."""
    plot_curve("tiny", {"valid/recall@10": {4: 0.1, 8: 0.2}}, tmp_path / "curve.png")

    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")

"""CostModel: predicts what it was shown, also between the shapes it saw, and follows a change."""

import pytest

from model.engine import Shape
from model.rehearsal import Timing, scenes
from service.cost import CostModel

STANDARD = Shape(num_items=50, beam_width=20, retention_ratio=0.5)
LENGTHS, RATIOS = (1, 4, 12, 32, 50), (0.25, 0.5, 1.0)


def machine_s(shape: Shape, rows: int) -> float:
    """A machine as it might be: 2 ms a group, and parts for rows, tokens and beams."""
    items = rows * shape.num_items
    return (
        0.002
        + 0.0001 * rows
        + 4e-6 * items
        + 6e-6 * items * shape.retention_ratio
        + 2e-5 * rows * shape.beam_width
    )


def shown(max_rows: int = 32) -> CostModel:
    """A model that saw this machine rehearse."""
    script = scenes(STANDARD, LENGTHS, RATIOS, max_rows, items_at_once=5_000)
    return CostModel.fit([Timing(shape, rows, machine_s(shape, rows)) for shape, rows in script])


@pytest.mark.parametrize("rows", [1, 5, 20, 32])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("beam_width", [10, 20, 45])
@pytest.mark.parametrize("num_items", [2, 24, 50])
def test_it_predicts_shapes_that_were_not_rehearsed(
    rows: int, ratio: float, beam_width: int, num_items: int
) -> None:
    """Within a tenth, on a machine whose time is what it supposes."""
    shape = Shape(num_items, beam_width, ratio)

    assert shown().group_s(shape, rows) == pytest.approx(machine_s(shape, rows), rel=0.1)


def test_a_batch_of_two_shapes_is_two_groups() -> None:
    """Each pays for being a group."""
    other = Shape(50, 20, 1.0)
    model = shown()

    mixed = model.batch_s([STANDARD, other, STANDARD])

    assert mixed == pytest.approx(model.group_s(STANDARD, 2) + model.group_s(other, 1))
    assert mixed > model.batch_s([STANDARD] * 3)


def test_more_of_anything_never_costs_less() -> None:
    """Noise in the timings makes no weight negative."""
    noisy = [
        Timing(shape, rows, machine_s(shape, rows) * (0.6 if (rows + place) % 2 else 1.5))
        for place, (shape, rows) in enumerate(scenes(STANDARD, LENGTHS, RATIOS, 32, 5_000))
    ]
    model = CostModel.fit(noisy)

    assert model.group_s(STANDARD, 1) > 0
    assert model.group_s(STANDARD, 20) > model.group_s(STANDARD, 10)
    assert model.group_s(Shape(50, 40, 0.5), 10) >= model.group_s(STANDARD, 10)
    assert model.group_s(Shape(50, 20, 1.0), 10) >= model.group_s(STANDARD, 10)


def test_it_follows_a_machine_that_slowed_down() -> None:
    """Thirty batches after everything takes three times as long, so do predictions."""
    model = shown()
    rehearsed_s = model.batch_s([STANDARD] * 8)

    for _ in range(30):
        predicted_s = model.batch_s([STANDARD] * 8)
        model.learn(predicted_s, 3 * rehearsed_s)

    assert model.batch_s([STANDARD] * 8) == pytest.approx(3 * rehearsed_s, rel=0.1)


def test_one_pause_is_no_new_pace() -> None:
    """A batch that took a thousand times as long moves predictions a little."""
    model = shown()

    model.learn(0.01, 10.0)

    assert 1.0 < model.correction < 1.4


def test_what_was_not_rehearsed_takes_no_time() -> None:
    """Without timings everything is let in, and nothing is learned from it."""
    model = CostModel.fit([])

    model.learn(model.batch_s([STANDARD]), 1.0)

    assert (model.batch_s([STANDARD]), model.correction) == (0.0, 1.0)

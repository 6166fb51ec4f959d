"""When requests come: shapes, warm-up, Poisson arrivals."""

import numpy as np
import pytest

from loadtest.schedules import SPIKE, Schedule, Shape, level


@pytest.mark.parametrize("shape", ["steady", "soak"])
def test_steady_and_soak_stay_where_they_are(shape: Shape) -> None:
    """The asked load from beginning to end."""
    assert {level(shape, at) for at in (0, 0.3, 0.5, 0.99, 1)} == {1.0}


def test_a_step_climbs_in_quarters() -> None:
    """A quarter of the load for a quarter of the time, and so on, to all of it at the end."""
    assert [level("step", at) for at in (0, 0.2, 0.25, 0.5, 0.75, 1)] == [
        0.25,
        0.25,
        0.5,
        0.75,
        1,
        1,
    ]


def test_a_spike_comes_and_goes() -> None:
    """The asked load, several times that in the middle, and the asked load again."""
    assert [level("spike", at) for at in (0, 0.39, 0.4, 0.59, 0.6, 1)] == [
        1,
        1,
        SPIKE,
        SPIKE,
        1,
        1,
    ]


def test_arrivals_are_poisson() -> None:
    """As many as asked; gaps are exponential: their deviation is their mean."""
    schedule = Schedule("steady", warmup_s=0, duration_s=1_000)

    gaps = np.diff(schedule.arrivals(50, seed=1))

    assert np.mean(gaps) == pytest.approx(1 / 50, rel=0.02)
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.02)


def test_arrivals_follow_the_shape() -> None:
    """During a spike there are several times as many as before and after."""
    schedule = Schedule("spike", warmup_s=0, duration_s=1_000)

    counts, _ = np.histogram(schedule.arrivals(20, seed=1), [0, 400, 600, 1_000])

    assert counts[1] / 200 == pytest.approx(SPIKE * counts[0] / 400, rel=0.05)
    assert counts[2] == pytest.approx(counts[0], rel=0.05)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    """Two runs ask at the same moments; another seed at others; all before the end."""
    schedule = Schedule("step", warmup_s=1, duration_s=9)

    first, again, other = (schedule.arrivals(30, seed) for seed in (1, 1, 2))

    assert first == again != other
    assert first == sorted(first)
    assert 0 < first[0] < first[-1] < schedule.total_s


def test_the_warm_up_has_the_load_of_the_beginning() -> None:
    """Before a step's first quarter ends, and all the while before it, there is a quarter."""
    schedule = Schedule("step", warmup_s=4, duration_s=8)

    assert [schedule.level_at(time_s) for time_s in (0, 3.9, 5.9, 6.1)] == [0.25, 0.25, 0.25, 0.5]
    assert [schedule.users_at(time_s, 8) for time_s in (0, 11)] == [2, 8]
    assert schedule.users_at(0, 1) == 1

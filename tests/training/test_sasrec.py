"""SASRec: what is said without cornac, what it is asked, and what it learns where that is."""

from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from model.errors import ModelError
from tests.training.data_folders import histories_of
from training.baselines import evaluate_baseline, fit_baseline
from training.evaluation_config import EvaluationConfig, SasrecConfig
from training.sasrec import Sasrec
from training.splits import Split, leave_one_out

HAS_CORNAC = find_spec("cornac") is not None
TINY = SasrecConfig(
    d_model=16,
    num_layers=1,
    max_history_items=4,
    dropout=0.1,
    num_epochs=20,
    batch_size=32,
    num_negatives=8,
    learning_rate=1e-2,
    validation_users=20,
)


class LastItem:
    """A network that likes what was asked for last, and notes what it was asked."""

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items
        self.asked: list[list[int]] = []

    def predict(self, user_ids: None, log_seqs: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """One row for each history, but for a single one none, as cornac does it."""
        assert user_ids is None
        self.asked += log_seqs.tolist()
        return np.squeeze(np.eye(self.num_items, dtype=np.float32)[log_seqs[:, -1]])


def walks() -> Split:
    """Sixty users who walk through thirty items in one order, from every start."""
    return leave_one_out(histories_of(*([(u + n) % 30 for n in range(7)] for u in range(60))))


def test_a_history_is_padded_on_the_left_and_cut_to_its_latest_items() -> None:
    """The number of items stands for no item."""
    examples = leave_one_out(histories_of([0, 1, 2, 3, 4], [3, 2, 1])).test
    network = LastItem(5)

    scores = Sasrec(network, num_items=5, max_history_items=3).scores(examples)

    assert network.asked == [[1, 2, 3], [5, 3, 2]]
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, np.eye(5)[[3, 2]])


def test_a_single_example_has_a_row_of_its_own() -> None:
    """Although cornac answers it without."""
    examples = leave_one_out(histories_of([0, 1, 2])).test

    scores = Sasrec(LastItem(3), num_items=3, max_history_items=3).scores(examples)

    np.testing.assert_array_equal(scores, [[0, 1, 0]])


@pytest.mark.skipif(HAS_CORNAC, reason="cornac is installed")
def test_a_missing_library_names_the_extra() -> None:
    """And how to get it."""
    with pytest.raises(ModelError, match=r'"sasrec" needs .* "baselines" .*\[baselines\]'):
        fit_baseline("sasrec", walks(), 30, TINY)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d_model": 6, "num_heads": 4}, "no multiple of num_heads"),
        ({"num_epochs": 4, "validate_every": 5}, "validate_every is larger than num_epochs"),
    ],
)
def test_a_contradictory_baseline_is_refused(settings: dict[str, int], message: str) -> None:
    """Said when the recipe is read."""
    with pytest.raises(ValidationError, match=message):
        EvaluationConfig.model_validate({"sasrec": settings})


@pytest.mark.skipif(not HAS_CORNAC, reason='needs the extra "baselines"')
def test_it_learns_an_order_that_popularity_cannot_see() -> None:
    """All thirty items are equally popular; validation stops caring once ten hold the next one."""
    split = walks()

    sasrec = fit_baseline("sasrec", split, 30, TINY)

    assert (evaluate_baseline(sasrec, split.test, 30, limit=1).ranks <= 3).mean() > 0.9


@pytest.mark.skipif(not HAS_CORNAC, reason='needs the extra "baselines"')
def test_the_same_seed_gives_the_same_scores() -> None:
    """And an item that nobody trained on has a score too."""
    split = walks()
    config = TINY.model_copy(update={"num_epochs": 5})

    first, second = (fit_baseline("sasrec", split, 31, config).scores(split.test) for _ in range(2))

    assert first.shape == (60, 31)
    np.testing.assert_array_equal(first, second)


@pytest.mark.skipif(not HAS_CORNAC, reason='needs the extra "baselines"')
def test_without_validation_users_the_last_weights_count() -> None:
    """Users may all be too short to be asked about."""
    split = leave_one_out(histories_of(*([u % 30, (u + 1) % 30] for u in range(60))))

    sasrec = fit_baseline("sasrec", split, 30, TINY)

    assert sasrec.scores(walks().test).shape == (60, 30)

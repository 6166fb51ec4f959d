"""What training steps read, against loops over histories, in both layouts."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import random_table, tiny_config, tiny_qwen
from tests.training.data_folders import histories_of
from training.config import TrainerConfig
from training.windows import Batch, BatchStream, Chunks, Source, Windows, source_for

ROWS = st.lists(
    st.lists(st.integers(0, 39), min_size=0, max_size=15), min_size=1, max_size=6
).filter(lambda rows: any(len(row) > 1 for row in rows))
LAYOUTS = (Windows, Chunks)


def source_of(kind: type[Source], rows: list[list[int]], max_items: int = 12) -> Source:
    """Spans over the items of random_table, with two further targets."""
    config = tiny_qwen(max_history_items=max_items)
    return kind(histories_of(*rows), random_table(), config, num_future_items=2)


@given(rows=ROWS)
def test_every_position_with_a_past_is_one_window(rows: list[list[int]]) -> None:
    """It reads what its user saw before, cut to the model's length; targets end with the user."""
    windows = source_of(Windows, rows)
    table = random_table()
    expected = [
        (row[max(0, t - 12) : t], row[t : t + 3]) for row in rows for t in range(1, len(row))
    ]

    spans = windows.spans(np.random.default_rng())
    batch = windows.batch(spans)

    assert len(spans) == len(expected)
    for n, (history, targets) in enumerate(expected):
        tokens = batch.tokens[n][batch.mask[n]].tolist()
        assert tokens == table.tokens_of(history).reshape(-1).tolist()
        assert batch.exists[n].tolist() == [step < len(targets) for step in range(3)]
        found = batch.targets[n][batch.exists[n]].tolist()
        assert found == table.codes[targets].tolist()


@given(rows=ROWS, max_items=st.integers(1, 16), seed=st.integers(0, 99))
def test_every_item_but_the_first_is_predicted_once(
    rows: list[list[int]], max_items: int, seed: int
) -> None:
    """Chunks are stretches of one history, at most the model's length and the item after it."""
    numbered = np.cumsum([0, *map(len, rows)])
    chunks = source_of(Chunks, [list(range(len(row))) for row in rows], max_items)

    spans = chunks.spans(np.random.default_rng(seed))

    predicted = [row for first, end in spans for row in range(first + 1, end)]
    assert sorted(predicted) == sorted(set(range(numbered[-1])) - set(numbered[:-1]))
    for first, end in spans:
        assert 2 <= end - first <= max_items + 1
        assert chunks.user_of[first] == chunks.user_of[end - 1]


@given(rows=ROWS, max_items=st.integers(1, 16))
def test_a_chunk_predicts_each_item_from_those_before_it(
    rows: list[list[int]], max_items: int
) -> None:
    """Target (i, 0) is the chunk's item i + 1; further ones may lie behind the chunk's end."""
    chunks = source_of(Chunks, rows, max_items)
    table, items = random_table(), [item for row in rows for item in row]
    spans = chunks.spans(np.random.default_rng(0))

    batch = chunks.batch(spans)

    for n, (first, end) in enumerate(spans):
        tokens = batch.tokens[n][batch.mask[n]].tolist()
        assert tokens == table.tokens_of(items[first:end]).reshape(-1).tolist()
        last = int(chunks.histories.offsets[chunks.user_of[first] + 1])
        for i in range(batch.targets.shape[1]):
            wanted = [first + i + 1 + step for step in range(3)]
            exists = [first + i + 1 < end and row < last for row in wanted]
            assert batch.exists[n, i].tolist() == exists
            found = batch.targets[n, i][batch.exists[n, i]].tolist()
            kept = [items[row] for row, there in zip(wanted, exists, strict=True) if there]
            assert found == table.codes[kept].tolist()


def test_a_long_history_is_cut_elsewhere_in_every_epoch() -> None:
    """The item with least context in one epoch has more in another; a short one stays whole."""
    chunks = source_of(Chunks, [list(range(30)), list(range(9))], max_items=8)

    epochs = [chunks.spans(np.random.default_rng(seed)).tolist() for seed in range(60)]

    assert {epoch[1][0] for epoch in epochs} == set(range(1, 9))
    assert all(epoch[-1] == [30, 39] for epoch in epochs)


@pytest.mark.parametrize("kind", LAYOUTS)
@given(rows=ROWS, budget=st.integers(1, 200), epoch=st.integers(0, 3))
def test_an_epoch_shows_every_span_once_within_the_budget(
    kind: type[Source], rows: list[list[int]], budget: int, epoch: int
) -> None:
    """Batches partition the spans; a batch is over budget only if it is a single span."""
    source = source_of(kind, rows)

    plan = BatchStream(source, budget, seed=1).plan(epoch)

    expected = source.spans(np.random.default_rng((1, epoch)))
    assert sorted(np.concatenate(plan).tolist()) == sorted(expected.tolist())
    for spans in plan:
        padded = len(spans) * int((spans[:, 1] - spans[:, 0]).max()) * 3
        assert padded <= budget or len(spans) == 1


@pytest.mark.parametrize("kind", LAYOUTS)
def test_spans_of_like_lengths_share_a_batch(kind: type[Source]) -> None:
    """On skewed histories at most a tenth of the tokens is padding."""
    random = np.random.default_rng(0)
    rows = [random.integers(0, 40, random.integers(2, 15)).tolist() for _ in range(400)]

    batches = list(islice(BatchStream(source_of(kind, rows), 900, seed=0), 40))

    real = sum(int(batch.mask.sum()) for batch in batches)
    padded = sum(batch.mask.numel() for batch in batches)
    assert real / padded > 0.9


@pytest.mark.parametrize("kind", LAYOUTS)
@given(first=st.integers(0, 30))
def test_a_stream_started_late_goes_on_like_one_started_early(
    kind: type[Source], first: int
) -> None:
    """Batch n is the same wherever the stream began, across epochs."""
    source = source_of(kind, [[1, 2, 3, 4, 5, 6, 7], [8, 9, 10]], max_items=3)

    early = list(islice(BatchStream(source, 20, seed=3), first, first + 4))
    late = list(islice(BatchStream(source, 20, seed=3, first=first), 4))

    for one, other in zip(early, late, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("kind", LAYOUTS)
@given(first=st.integers(0, 9), stride=st.integers(1, 7))
def test_strides_share_the_batches_out(kind: type[Source], first: int, stride: int) -> None:
    """Streams that begin one after the other and take every n-th batch take all, across epochs."""
    source = source_of(kind, [[1, 2, 3, 4, 5, 6, 7], [8, 9, 10]], max_items=3)

    whole = list(islice(BatchStream(source, 20, seed=3, first=first), 3 * stride))
    shares = [
        islice(BatchStream(source, 20, seed=3, first=first + rank, stride=stride), 3)
        for rank in range(stride)
    ]

    for number, batches in enumerate(zip(*shares, strict=True)):
        for one, other in zip(batches, whole[number * stride :], strict=False):
            assert_same(one, other)


def assert_same(one: Batch, other: Batch) -> None:
    """Equal, tensor by tensor."""
    assert all(a.equal(b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", LAYOUTS)
def test_epochs_and_seeds_differ_in_order(kind: type[Source]) -> None:
    """The order is shuffled anew every epoch, and by every seed."""
    source = source_of(kind, [list(range(30))] * 5)
    stream, other = BatchStream(source, 20, seed=0), BatchStream(source, 20, seed=1)

    orders = {str(plan) for plan in (stream.plan(0), stream.plan(1), other.plan(0))}

    assert len(orders) == 3
    assert str(stream.plan(0)) == str(BatchStream(source, 20, seed=0).plan(0))


@pytest.mark.parametrize(
    ("changes", "kind", "num_future_items"),
    [
        ({}, Windows, 2),
        ({"layout": "dense"}, Chunks, 2),
        ({"layout": "dense", "auxiliary": "tokens"}, Chunks, 0),
    ],
)
def test_a_stage_reads_what_its_settings_say(
    changes: dict[str, str], kind: type[Source], num_future_items: int
) -> None:
    """The layout decides the spans; multi-token prediction needs no further items."""
    settings = TrainerConfig.model_validate({"max_steps": 1, **changes})

    source = source_for(settings, histories_of([1, 2, 3]), random_table(), tiny_config())

    assert isinstance(source, kind)
    assert source.num_future_items == num_future_items

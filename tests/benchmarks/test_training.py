"""The training benchmark, on a tiny model: that it compares like with like, and what it reports."""

from benchmarks.training import (
    BATCH_TOKENS,
    ROWS,
    bucketed,
    measure,
    num_parameters,
    padded,
    reference_model,
    report,
    windows,
)
from model.bundle import new_model
from tests.factories import tiny_config


def test_both_read_the_same_windows_in_as_many_steps() -> None:
    """None lost, none over the budget; ours takes at least as many optimiser steps."""
    theirs, own = padded(windows()), bucketed(windows(), tokens_per_item=4)

    assert sorted(sum(theirs, [])) == sum(own, []) == sorted(windows())  # noqa: RUF017 - short
    assert {len(batch) for batch in theirs} == {ROWS}
    assert all(len(batch) * max(batch) * 4 <= BATCH_TOKENS for batch in own)
    assert len(theirs) <= len(own) <= len(theirs) + 1


def test_both_models_have_the_same_size() -> None:
    """But for output weights: transformers' are tied to the embeddings, whatever one asks for."""
    config = tiny_config(dropout=0.1)

    own, theirs = map(num_parameters, (new_model(config), reference_model(config)))

    assert abs(own - theirs) / own < 0.1


def test_every_way_of_training_is_measured() -> None:
    """A number each, theirs first."""
    found = measure(tiny_config(max_history_items=20), budget_s=0, min_rounds=1)

    assert list(found) == ["transformers, padded", "ours", "ours, SAP", "ours, SAP and MAP"]
    assert all(speed > 0 for speed in found.values())


def test_the_target_is_for_the_model_without_pruning() -> None:
    """What SAP gains does not count."""
    speeds = {"transformers, padded": 10.0, "ours": 19.0, "ours, SAP": 40.0}

    found = report(tiny_config(), speeds)

    assert found["speedup"] == {"transformers, padded": 1.0, "ours": 1.9, "ours, SAP": 4.0}
    assert found["reached"] is False

"""The drift report, on tiny bundles: float32 does not drift, the others are measured."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from benchmarks.drift import (
    COMPILED,
    MODES,
    app,
    compare,
    engines_of,
    measure,
    random_examples,
    read_examples,
)
from model.buckets import Graphs
from model.bundle import Bundle, save_bundle
from model.engine import Engine
from model.errors import ModelError
from model.queries import Answer, RankedItem
from model.speed import SpeedMode
from tests.factories import TINY, random_bundle, random_model


def answer(*scores: tuple[int, float]) -> Answer:
    """An answer of (item, score) pairs."""
    items = [RankedItem(item, score, (), None) for item, score in scores]
    return Answer(items, tokens_in=0, tokens_kept=0, kept_history=None)


def write_data(folder: Path, item_ids: list[str]) -> None:
    """A prepared folder in which two users had items 0 to 3."""
    pl.DataFrame({"item_id": item_ids}).write_parquet(folder / "items.parquet")
    rows = [(user, item_ids[item], None) for user in ("u", "v") for item in range(4)]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    pl.DataFrame(rows, schema, orient="row").write_parquet(folder / "interactions.parquet")


def leave_one_out_bundle() -> Bundle:
    """A tiny bundle whose manifest says how its run was split."""
    bundle = random_bundle()
    training = {"split": {"kind": "leave-one-out"}}
    manifest = bundle.manifest.model_copy(update={"training": training})
    return Bundle(manifest, bundle.weights, bundle.sids, bundle.placement, bundle.catalog)


def test_drift_counts_common_items_equal_firsts_and_score_changes() -> None:
    """Shares of items and of users; the change is of items that both found."""
    reference = [answer((1, -1.0), (2, -2.0)), answer((3, -1.0), (4, -2.0))]
    other = [answer((1, -1.25), (5, -2.0)), answer((4, -1.5), (3, -1.75))]

    assert compare(reference, other) == (0.75, 0.5, 0.75)


def test_every_mode_is_measured_and_float32_does_not_drift() -> None:
    """Times for each batch size; the reference agrees with itself, and costs what it costs."""
    bundle = random_bundle()
    examples = random_examples(40, 12, num_users=20)

    found = measure(bundle, examples, known=True, beam_width=20, budget_s=0)

    assert tuple(found) == MODES
    reference = found["float32"]
    assert (reference.overlap, reference.same_first, reference.max_score_change) == (1, 1, 0)
    assert reference.speedup == {1: 1.0, 8: 1.0}
    assert reference.recall_change == (0, 0, 0)
    assert all(drift.overlap > 0.7 and min(drift.ms.values()) > 0 for drift in found.values())


def test_compiled_modes_come_on_demand() -> None:
    """With graphs for the batches that are timed; the others without."""
    asked: list[tuple[str, Graphs | None]] = []

    def make(bundle: Bundle, *, dtype: SpeedMode, graphs: Graphs | None = None) -> Engine:
        asked.append((dtype, graphs))
        return Engine.from_bundle(bundle)

    engines = engines_of(random_bundle(), 20, compiled=True, make=make)

    graphs = Graphs((1, 8), 20)
    assert tuple(engines) == (*MODES, *COMPILED)
    assert asked == [*((mode, None) for mode in MODES), ("float32", graphs), ("bfloat16", graphs)]


def test_histories_of_test_users_come_from_the_bundles_run(tmp_path: Path) -> None:
    """Split as the manifest says: all but the last item, which is the target."""
    bundle = leave_one_out_bundle()
    write_data(tmp_path, bundle.catalog.item_ids)

    examples = read_examples(bundle, tmp_path)

    assert [(history.tolist(), target) for history, target in examples.pairs()] == [
        ([0, 1, 2], 3),
        ([0, 1, 2], 3),
    ]


def test_data_of_another_run_are_refused(tmp_path: Path) -> None:
    """Item indices would mean other items."""
    write_data(tmp_path, ["a", "b", "c", "d"])

    with pytest.raises(ModelError, match="other items than the bundle's"):
        read_examples(leave_one_out_bundle(), tmp_path)


@pytest.mark.parametrize("arguments", [["--json"], []], ids=["json", "table"])
def test_the_command_reports_every_mode(tmp_path: Path, arguments: list[str]) -> None:
    """From a folder of versions, with random histories: no recall without known targets."""
    bundle = random_bundle()
    save_bundle(
        tmp_path, bundle.manifest, random_model(TINY), bundle.catalog, bundle.sids, bundle.placement
    )
    options = ["--users", "5", "--seconds", "0", *arguments]

    result = CliRunner().invoke(app, [str(tmp_path), *options], catch_exceptions=False)

    assert all(mode in result.output for mode in ("float32", "bfloat16", "int8"))


def test_the_json_is_one_object(tmp_path: Path) -> None:
    """With the modes, how many users were asked, and where it was measured."""
    bundle = random_bundle()
    save_bundle(
        tmp_path, bundle.manifest, random_model(TINY), bundle.catalog, bundle.sids, bundle.placement
    )

    options = ["--users", "5", "--seconds", "0", "--json"]
    result = CliRunner().invoke(app, [str(tmp_path), *options], catch_exceptions=False)

    found = json.loads(result.output)
    assert (found["users"], list(found["modes"])) == (5, list(MODES))
    assert found["environment"]["torch_threads"] == 1

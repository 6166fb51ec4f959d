"""Cells are trained once, share what they have in common, and end in a report."""

import json
from pathlib import Path

import pytest

from tests.training.experiments import EXPERIMENT, experiment_file
from tests.training.recipes import RECIPE
from training.__main__ import main
from training.conclude import conclude
from training.experiment import Cell, Experiment, cells_of, read_experiment
from training.experiment_plot import plot_rows, series
from training.experiment_rows import Row
from training.experiment_run import judged, run_of, shared_run, work_on


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment by the command line, from beginning to end."""
    folder = tmp_path_factory.mktemp("experiment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.conclude.COST_BUDGET_S", 0.0)
        with pytest.raises(SystemExit) as ended:
            main(["experiment", str(experiment_file(folder)), "--runs-dir", str(folder / "runs")])
    assert ended.value.code == 0
    return folder


@pytest.fixture
def experiment(folder: Path) -> Experiment:
    """The experiment that was run."""
    return read_experiment(str(folder / "small.toml"))


@pytest.fixture
def cells(experiment: Experiment) -> list[Cell]:
    """Its cells."""
    return cells_of(experiment)


def results(folder: Path) -> Path:
    """Where the experiment keeps its files."""
    return folder / "runs" / "experiments" / "small"


def test_every_cell_is_measured_with_the_weights_of_its_own_stage(
    folder: Path, cells: list[Cell]
) -> None:
    """At the ratio of its training; users that no list holds have no rank."""
    for cell in cells:
        found = judged(cell, results(folder))
        assert found is not None
        ratio = 1.0 if cell.variant == ("off",) else 0.5
        assert found.result.trained_ratio == ratio
        assert found.ranks.keys() == {ratio}
        assert len(found.ranks[ratio]) == found.result.num_users == 40


def test_variants_that_differ_in_pruning_alone_share_a_dense_stage(
    folder: Path, cells: list[Cell]
) -> None:
    """One first stage per seed, trained once."""
    shared = {shared_run(cell, results(folder)).folder for cell in cells}

    assert len(shared) == 2
    assert set((results(folder) / "shared").iterdir()) == shared


def test_the_report_compares_with_the_baseline(folder: Path) -> None:
    """Every variant over both seeds, costs in both layouts, and a plot."""
    document = json.loads((results(folder) / "report.json").read_text(encoding="utf-8"))
    [report] = document["recipes"]
    rows = {row["variant"][0]: row for row in report["rows"]}

    assert document["unfinished_cells"] == 0
    assert rows["off"]["seeds"] == [1, 2]
    assert rows["off"]["difference"] == 0
    assert rows["on"]["difference_low"] <= rows["on"]["difference"]
    assert rows["on"]["difference"] <= rows["on"]["difference_high"]
    costs = {(cost["variant"][0], cost["layout"]): cost for cost in report["costs"]}
    assert costs["off", "padded"]["activation_mb"] > costs["off", "unpadded"]["activation_mb"]
    assert costs["off", "unpadded"]["activation_mb"] > costs["on", "unpadded"]["activation_mb"]
    text = (results(folder) / "report.md").read_text(encoding="utf-8")
    assert "# Pruned or not" in text
    assert "| on | 0.50 (as trained) | 2 |" in text
    assert (results(folder) / "tiny.png").stat().st_size > 1000


def test_a_second_run_does_nothing_again(
    folder: Path, experiment: Experiment, cells: list[Cell]
) -> None:
    """No stamp changes, and the costs are those that were measured."""
    made = [results(folder) / "costs-tiny.json", *results(folder).glob("cells/*/stamps/judge")]
    before = [path.stat().st_mtime_ns for path in made]

    assert work_on(cells, results(folder)) == []
    conclude(experiment, cells, results(folder), budget_s=0)

    assert len(made) == 5
    assert [path.stat().st_mtime_ns for path in made] == before


def test_a_cell_that_another_process_works_on_is_left_to_it(tmp_path: Path) -> None:
    """The others are finished, and the report says what is missing."""
    text = EXPERIMENT.replace("seeds = [1, 2]", "seeds = [1]")
    experiment = read_experiment(str(experiment_file(tmp_path, text, RECIPE)))
    cells = cells_of(experiment)

    with run_of(cells[1], tmp_path).locked():
        left = work_on(cells, tmp_path)
    report = conclude(experiment, cells, tmp_path).read_text(encoding="utf-8")

    assert left == [cells[1]]
    assert judged(cells[1], tmp_path) is None
    assert "**1 trainings are not finished.**" in report
    assert "| off | 1.00 (as trained) | 1 |" in report
    assert "speed-up" not in report


def test_a_model_trained_without_sap_can_be_served_with_it(tmp_path: Path) -> None:
    """The ratio of the training comes first, then those that the experiment asks for."""
    text = (
        EXPERIMENT.replace("seeds = [1, 2]", "seeds = [1]")
        .replace("retention_ratios = []", "retention_ratios = [1.0, 0.5]")
        .replace('model = {{ pruning = "none" }}', "trainer = {{ retention_ratio = 1.0 }}")
    )
    experiment = read_experiment(str(experiment_file(tmp_path, text, RECIPE)))
    cells = cells_of(experiment)

    work_on(cells, tmp_path)

    found = [judged(cell, tmp_path) for cell in cells]
    assert [list(each.ranks) for each in found if each is not None] == [[1.0, 0.5], [0.5, 1.0]]
    report = conclude(experiment, cells, tmp_path, budget_s=0).read_text(encoding="utf-8")
    assert "| off | 1.00 (as trained) |" in report
    assert "| off | 0.50 |" in report


def test_ratios_stand_in_the_order_of_what_they_keep(tmp_path: Path) -> None:
    """Whichever comes first in each series, the picture's places descend."""
    rows = [
        Row(
            variant=(variant,),
            retention_ratio=ratio,
            is_trained_ratio=ratio == trained,
            seeds=(1,),
            recall_at_5=0.1,
            recall_at_10=0.2,
            recall_at_10_sd=None,
            ndcg_at_10=0.1,
            difference=None,
            difference_low=None,
            difference_high=None,
        )
        for variant, trained in (("on", 0.5), ("off", 1.0))
        for ratio in (trained, 1.5 - trained, 0.25)
    ]

    plot_rows("tiny", rows, ["training"], tmp_path / "plot.png")

    places = {name: list(by_place) for name, by_place in series(rows).items()}
    descending = ["served at 1.00", "served at 0.50", "served at 0.25"]
    assert places == {"off": descending, "on": descending}
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_dense_last_stage_has_no_costs_to_compare(tmp_path: Path) -> None:
    """Its layout does not prune."""
    text = EXPERIMENT.replace("seeds = [1, 2]", "seeds = [1]").replace(
        "on = {{ stages", 'on = {{ model = {{ pruning = "none" }}, stages'
    )
    text = text.replace("[common]", '[common]\ntrainer = {{ layout = "dense" }}')
    experiment = read_experiment(str(experiment_file(tmp_path, text)))
    cells = cells_of(experiment)
    work_on(cells, tmp_path)

    report = conclude(experiment, cells, tmp_path, budget_s=0).read_text(encoding="utf-8")

    assert "| on | 1.00 (as trained) | 1 |" in report
    assert "speed-up" not in report

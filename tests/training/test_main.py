"""The command line on a small made-up catalog: all steps, skipping, going on, one-line errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model.bundle import latest, load_bundle
from model.engine import Engine, Query
from model.errors import ModelError
from tests.training.recipes import recipe_file, run_all, run_of
from training import steps
from training.__main__ import main


def complaint_of(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line that a command gives up with."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert isinstance(stopped.value.code, str)
    assert capsys.readouterr().out == ""
    assert "\n" not in stopped.value.code
    return stopped.value.code


def test_one_command_makes_a_bundle_that_answers(tmp_path: Path) -> None:
    """From raw files to recommendations; the manifest tells how it came to be."""
    done = subprocess.run(
        [sys.executable, "-m", "training", "run", recipe_file(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    bundle = load_bundle(latest(tmp_path / "bundles" / "tiny"))
    answer = Engine.from_bundle(bundle).recommend([Query([0, 3], limit=5)])[0]
    assert len(answer.items) == 5
    assert bundle.manifest.training["name"] == "tiny"
    assert {"recall@10", "ndcg@10"} <= bundle.manifest.metrics.keys()
    assert [p.retention_ratio for p in bundle.manifest.sap_profile] == [1 / 3, 0.5, 1.0]
    evaluation = json.loads((tmp_path / "runs/tiny/evaluation.json").read_text())
    assert evaluation["baselines"].keys() == {"popularity", "transitions", "item-knn"}


def test_running_again_does_nothing(tmp_path: Path) -> None:
    """A finished run is skipped, step by step, and no second bundle appears."""
    run = run_of(tmp_path, recipe_file(tmp_path))
    run_all(run)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    run_all(run)

    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_a_changed_recipe_repeats_what_depends_on_the_change(tmp_path: Path) -> None:
    """More training steps: data and semantic IDs stay, a second bundle appears."""
    run_all(run_of(tmp_path, recipe_file(tmp_path)))
    first = (tmp_path / "runs/tiny/sids/sids.safetensors").stat().st_mtime_ns

    run_all(run_of(tmp_path, recipe_file(tmp_path, max_steps=12)))

    assert (tmp_path / "runs/tiny/sids/sids.safetensors").stat().st_mtime_ns == first
    assert len(list((tmp_path / "bundles" / "tiny").iterdir())) == 2


def test_baselines_are_measured_without_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On prepared data alone, and not again when a model is evaluated beside them."""
    monkeypatch.chdir(tmp_path)
    recipe = recipe_file(tmp_path)
    table = tmp_path / "runs/tiny/baselines.json"
    assert "prepare comes first" in complaint_of(capsys, "baselines", recipe)
    run = run_of(tmp_path, recipe)

    steps.prepare(run)
    steps.baselines(run)

    found = json.loads(table.read_text())
    made = table.stat().st_mtime_ns
    assert found["metrics"].keys() == {"popularity", "transitions", "item-knn"}
    run_all(run)
    assert json.loads((run.folder / "evaluation.json").read_text())["baselines"] == found["metrics"]
    assert table.stat().st_mtime_ns == made


def test_an_evaluation_has_the_baselines_of_its_recipe(tmp_path: Path) -> None:
    """Also where they changed after the training, and only evaluate is asked for."""
    recipe = recipe_file(tmp_path)
    run_all(run_of(tmp_path, recipe))
    recipe.write_text(recipe.read_text() + '\n[evaluation]\nbaselines = ["popularity"]\n')
    run = run_of(tmp_path, recipe)

    steps.evaluate(run)

    evaluation = json.loads((run.folder / "evaluation.json").read_text())
    assert evaluation["baselines"].keys() == {"popularity"}


def test_changed_data_repeats_everything(tmp_path: Path) -> None:
    """The key of the first step is the content of the files, not their dates."""
    run = run_of(tmp_path, recipe_file(tmp_path))
    steps.prepare(run)
    before = run.stamp("prepare")
    events = tmp_path / "raw" / "interactions.tsv"
    events.write_text(events.read_text() + "u99\ti1\t5\n")

    steps.prepare(run)

    assert run.stamp("prepare") != before


def test_a_step_out_of_order_says_which_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One readable line."""
    monkeypatch.chdir(tmp_path)

    assert "quantize comes first" in complaint_of(capsys, "train", recipe_file(tmp_path))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("no-such-recipe", "no recipe 'no-such-recipe'; give a .toml file or one of"),
        ("broken.toml", "not TOML"),
        ("odd.toml", "trainer.resume_evary: Extra inputs are not permitted"),
        ("twice.toml", "codebook_sizes belongs to [quantizer]"),
        ("unheard.toml", "evaluation.baselines.0: Input should be 'popularity', 'transitions'"),
    ],
)
def test_a_bad_recipe_is_one_readable_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    recipe: str,
    message: str,
) -> None:
    """The error names the file and the field."""
    good = recipe_file(tmp_path).read_text()
    (tmp_path / "broken.toml").write_text("name = ")
    (tmp_path / "odd.toml").write_text(good.replace("resume_every", "resume_evary"))
    sized = good.replace("[model]", "[model]\ncodebook_sizes = [4]")
    (tmp_path / "twice.toml").write_text(sized)
    (tmp_path / "unheard.toml").write_text(good + '\n[evaluation]\nbaselines = ["gru"]\n')
    monkeypatch.chdir(tmp_path)

    assert message in complaint_of(capsys, "run", recipe)


def test_a_broken_row_names_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line 3 of the interactions has a word for a time."""
    recipe = recipe_file(tmp_path)
    events = tmp_path / "raw" / "interactions.tsv"
    lines = events.read_text().splitlines()
    lines[2] = "u0\ti3\tnoon"
    events.write_text("\n".join(lines) + "\n")

    monkeypatch.chdir(tmp_path)

    complaint = complaint_of(capsys, "run", recipe)

    assert "interactions.tsv, line 3: timestamp 'noon'" in complaint


def test_nobody_else_works_on_a_locked_run(tmp_path: Path) -> None:
    """The second one is told to wait; the lock goes with its holder, however that ends."""
    run = run_of(tmp_path, recipe_file(tmp_path))

    with run.locked(), pytest.raises(ModelError, match="another process"), run.locked():
        pass

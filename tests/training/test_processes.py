"""Several processes started by torchrun train one model, and one of them does all the rest."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.modules import SETTINGS
from tests.training.recipes import RECIPE, recipe_file, run_of
from training import steps
from training.__main__ import main
from training.processes import num_processes, rank
from training.run import Run
from training.trainer import batches_each

TWO_BATCHES = RECIPE.replace("[trainer]", "[trainer]\naccumulate = 2").replace(
    "validate_every = 4", "validate_every = 20"
)


def torchrun(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m training` in two processes of this machine."""
    runner = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run(
        [sys.executable, *runner, "-m", "training", *arguments],
        cwd=folder,
        env={
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def prepared(folder: Path, recipe: Path) -> Run:
    """A run that can be trained."""
    run = run_of(folder, recipe)
    steps.prepare(run)
    steps.quantize(run)
    return run


def logged(run: Run, column: str) -> list[float]:
    """What a training logged, step by step."""
    with (run.folder / "train" / run.stamp("train")[0] / "csv" / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


def test_two_processes_train_like_one_with_twice_the_batches(tmp_path: Path) -> None:
    """The same batches a step, so the same losses, weights and key; the first one alone reports."""
    recipe = recipe_file(tmp_path, max_steps=40, recipe=TWO_BATCHES)
    alone = prepared(tmp_path / "alone", recipe)
    together = prepared(tmp_path, recipe)

    steps.train(alone)
    done = torchrun("train", recipe, folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("best weights:") == 1
    assert together.stamp("train") == alone.stamp("train")
    assert logged(together, "loss") == pytest.approx(logged(alone, "loss"), rel=1e-4)
    assert len(logged(together, "loss")) == 4
    assert logged(together, "valid/recall@10") == logged(alone, "valid/recall@10")
    files = [run.folder / "train" / run.stamp("train")[0] for run in (together, alone)]
    weights = [load_file(folder / "model.safetensors") for folder in files]
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-3)


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun tells the second of its processes."""
    for name, value in {"TORCHELASTIC_RUN_ID": "run", "WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)


def test_a_process_on_its_own_is_the_first_of_one() -> None:
    """Without torchrun."""
    assert (rank(), num_processes(), batches_each(SETTINGS)) == (0, 1, 1)


@pytest.mark.usefixtures("second_of_two")
def test_batches_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    """By all processes alike, before anything is trained; the second one takes no lock."""
    recipe = recipe_file(tmp_path)
    prepared(tmp_path, recipe)

    with pytest.raises(SystemExit, match=r"accumulate = 1 batches .* evenly by 2 processes"):
        main(["train", str(recipe), "--runs-dir", str(tmp_path / "runs")])

    assert not (tmp_path / "runs" / "tiny" / ".lock").exists()


@pytest.mark.usefixtures("second_of_two")
@pytest.mark.parametrize("verb", ["run", "prepare", "export"])
def test_only_training_is_shared(tmp_path: Path, verb: str) -> None:
    """What several processes would do twice is refused."""
    with pytest.raises(SystemExit, match="torchrun is for the verbs pretrain and train"):
        main([verb, str(recipe_file(tmp_path))])

"""A training that the machine kills, run again by the same command."""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.recipes import RECIPE, recipe_file, run_of
from training import steps

PATIENCE_S = 60.0
SLOW = RECIPE.replace("resume_every = 4", "resume_every = 10").replace(
    "validate_every = 4", "validate_every = 50"
)


def start(recipe: Path, folder: Path) -> subprocess.Popen[str]:
    """`python -m training run` in a process of its own, with its runs in `folder`."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "training", "run", recipe],
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until the training has left something to go on from; it must still be at work then."""
    end = time.monotonic() + PATIENCE_S
    while not list(folder.rglob("resume-step=*.ckpt")):
        assert time.monotonic() < end
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)


def digest(folder: Path) -> str:
    """SHA-256 of the one model.safetensors in a folder of runs."""
    (weights,) = folder.glob("runs/*/train/*/model.safetensors")
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_killed_training_ends_with_the_weights_of_one_left_alone(tmp_path: Path) -> None:
    """SIGKILL in mid-training, then the same command: the same file, bit for bit."""
    recipe = recipe_file(tmp_path, max_steps=100, recipe=SLOW)
    cut = tmp_path / "cut"

    victim = start(recipe, cut)
    wait_for_checkpoint(cut, victim)
    victim.kill()
    victim.communicate(timeout=PATIENCE_S)
    assert victim.returncode == -signal.SIGKILL
    assert not list(cut.glob("runs/*/stamps/train"))
    again = start(recipe, cut)
    _, complaints = again.communicate(timeout=PATIENCE_S)

    assert again.returncode == 0, complaints
    whole = run_of(tmp_path, recipe)
    for step in (steps.prepare, steps.quantize, steps.train):
        step(whole)
    assert digest(cut) == digest(tmp_path)

"""Small recipes over a made-up catalog, and the runs that the command line would open."""

from pathlib import Path

from tests.training.data_folders import write_folder
from training import steps
from training.config import read_recipe
from training.run import Run

RECIPE = """
name = "tiny"

[dataset]
kind = "folder"
folder = "{folder}"

[quantizer]
codebook_sizes = [4, 4]
num_iterations = 3

[model]
backbone = "t5"
max_history_items = 6
d_model = 16
num_heads = 2
d_kv = 8
d_ff = 32
num_layers = 2
num_decoder_layers = 1
pruning = {{ layer = 0, retention_ratio = 0.5 }}

[trainer]
max_steps = {max_steps}
batch_tokens = 128
validate_every = 4
resume_every = 4
"""


TWO_STAGES = """
name = "tiny"

[dataset]
kind = "folder"
folder = "{folder}"

[quantizer]
codebook_sizes = [4, 4]
num_iterations = 3

[model]
backbone = "qwen"
max_history_items = 6
d_model = 16
num_heads = 2
d_kv = 8
d_ff = 32
num_layers = 2
pruning = {{ layer = 0, retention_ratio = 0.5 }}

[pretrainer]
layout = "dense"
max_steps = {max_steps}
batch_tokens = 128
validate_every = 4
resume_every = 4

[trainer]
max_steps = {max_steps}
batch_tokens = 128
validate_every = 4
resume_every = 4
"""


def recipe_file(folder: Path, max_steps: int = 8, recipe: str = RECIPE) -> Path:
    """A recipe for thirty items in four categories and forty users who walk through them."""
    items = [
        {"item_id": f"i{n}", "title": f"Thing {n}", "categories": [f"kind {n % 4}"]}
        for n in range(30)
    ]
    rows = [f"u{u}\ti{(u + 3 * n) % 30}\t{n}" for u in range(40) for n in range(8)]
    events = "\n".join(["user_id\titem_id\ttimestamp", *rows]) + "\n"
    write_folder(folder / "raw", events, items)
    path = folder / "tiny.toml"
    path.write_text(recipe.format(folder=folder / "raw", max_steps=max_steps), encoding="utf-8")
    return path


def run_of(folder: Path, recipe: Path) -> Run:
    """The run that the command line would open."""
    return Run(read_recipe(str(recipe)), folder / "runs" / "tiny", folder / "bundles" / "tiny")


def run_all(run: Run) -> None:
    """Every step, in this process."""
    for step in steps.STEPS:
        step(run)

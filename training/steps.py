"""The verbs of the command line: prepare, quantize, train, evaluate, export, in this order.

Each takes a run and does its step unless it is done. A step's key contains the key of the step
before it: change a recipe, and everything after the change is made again.
"""

import datetime as dt
import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import JsonValue
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.bundle import MANIFEST, Manifest, new_model, save_bundle
from model.engine import Engine
from model.errors import ModelError
from model.semantic_id import SidTable
from training.card import render_card
from training.dataset import prepare as prepare_data
from training.dataset import read_items
from training.embeddings import embed_items
from training.evaluate import some
from training.files import atomic_path
from training.quantizer import quantize as fit_codebooks
from training.report import Evaluation, measure, render_evaluation
from training.run import Run, Semantics, step_key
from training.sid_report import render_sid_report, sid_report
from training.sources import source_files
from training.splits import Split
from training.trainer import StampModule, build_model, fit
from training.windows import Windows

console = Console(stderr=True)


def prepare(run: Run) -> None:
    """Raw interactions and items -> data/."""
    hashes: JsonValue = [[path.name, _sha256(path)] for path in source_files(run.recipe.dataset)]
    config = run.recipe.dataset.model_dump(mode="json", exclude={"folder"})
    key = step_key("prepare", [config, hashes], after="")
    if _is_done(run, "prepare", key):
        return
    prepared = prepare_data(run.recipe.dataset)
    prepared.write(run.data)
    console.print(render_card(prepared.card))
    run.write_stamp("prepare", key)


def quantize(run: Run) -> None:
    """Item texts and training histories -> sids/."""
    config = run.recipe.model_dump(mode="json", include={"embedding", "quantizer"})
    key = step_key("quantize", config, after=_key_of(run, "prepare"))
    if _is_done(run, "quantize", key):
        return
    train = run.split().train
    items = read_items(run.data)
    popularity = train.popularity(items.height)
    vectors = embed_items(items, train, run.recipe.embedding)
    quantized = fit_codebooks(vectors, run.recipe.quantizer, popularity=popularity)
    for note in quantized.notes:
        console.print(f"note: {note}")
    report = sid_report(quantized)
    console.print(render_sid_report(report))
    sids = SidTable(quantized.codes, quantized.codebook_sizes, popularity)
    codebooks = tuple(torch.from_numpy(codebook) for codebook in quantized.codebooks)
    run.write_semantics(Semantics(sids, codebooks))
    _write(run.folder / "sids" / "report.json", report.model_dump_json(indent=2))
    run.write_stamp("quantize", key)


def train(run: Run) -> None:
    """Training windows -> train/<key>/, resumed if it was interrupted."""
    config = run.recipe.model_dump(mode="json", include={"model", "trainer"})
    key = step_key("train", config, after=_key_of(run, "quantize"))
    if _is_done(run, "train", key):
        return
    split = run.split()
    catalog = run.catalog(split)
    semantics = run.read_semantics(catalog.popularity)
    settings = run.recipe.trainer
    shape = run.recipe.model_config_for(semantics.sids.codebook_sizes)
    windows = Windows(split.train, semantics.sids, shape, settings.num_future_items)
    valid = some(split.valid, settings.validation_users)
    model = build_model(shape, settings, semantics.codebooks)
    module = StampModule(model, settings, windows, valid, catalog)
    folder = run.folder / "train" / key
    recall = fit(module, folder)
    for name, part in (("model", module.model), ("map_heads", module.heads)):
        with atomic_path(folder / f"{name}.safetensors") as path:
            save_file(part.state_dict(), path)
    console.print(f"best weights: recall@10 {recall:.4f} on {len(valid):,} validation users")
    run.write_stamp("train", key)


def evaluate(run: Run) -> None:
    """The best weights on the test split, beside simple baselines -> evaluation.json."""
    config = run.recipe.evaluation
    key = step_key("evaluate", config.model_dump(mode="json"), after=_key_of(run, "train"))
    if _is_done(run, "evaluate", key):
        return
    torch.set_num_threads(config.num_threads)
    split = run.split()
    found = measure(trained_engine(run, split), split, config)
    console.print(render_evaluation(found))
    _write(run.folder / "evaluation.json", found.model_dump_json(indent=2))
    run.write_stamp("evaluate", key)


def export(run: Run) -> None:
    """Best weights and measurements -> bundles/<name>/<version>/."""
    key = step_key("export", run.recipe.name, after=_key_of(run, "evaluate"))
    done = run.stamp("export")
    if done[:1] == [key] and (run.bundles / done[1] / MANIFEST).exists():
        console.print(f"export: up to date, {run.bundles / done[1]}", style="dim")
        return
    now = dt.datetime.now(dt.UTC)
    version = f"{now:%Y%m%d-%H%M%S}-{key[:8]}"
    text = (run.folder / "evaluation.json").read_text(encoding="utf-8")
    found = Evaluation.model_validate_json(text)
    engine = trained_engine(run, run.split())
    manifest = engine.manifest.model_copy(
        update={
            "version": version,
            "created_at": now.isoformat(timespec="seconds"),
            "metrics": found.metrics,
            "sap_profile": found.sap_profile,
        }
    )
    codebooks = run.read_semantics(engine.catalog.popularity).codebooks
    heads = _weights(run, "map_heads")
    folder = save_bundle(
        run.bundles, manifest, engine.model, engine.catalog, engine.sids, codebooks, heads
    )
    run.write_stamp("export", key, version)
    console.print(f"bundle: {folder}")


Step = Callable[[Run], None]

STEPS: tuple[Step, ...] = (prepare, quantize, train, evaluate, export)


def trained_engine(run: Run, split: Split) -> Engine:
    """The engine of a finished training, before it is a bundle."""
    catalog = run.catalog(split)
    sids = run.read_semantics(catalog.popularity).sids
    shape = run.recipe.model_config_for(sids.codebook_sizes)
    model = new_model(shape).eval()
    model.load_state_dict(_weights(run, "model"))
    manifest = Manifest(
        name=run.recipe.name,
        version="unreleased",
        created_at="",
        model=shape,
        training=run.recipe.model_dump(mode="json"),
        metrics={},
        sap_profile=(),
        files={},
    )
    ratios = run.recipe.evaluation.retention_ratios
    return Engine(manifest, model, sids, catalog, retention_ratios={1.0, *ratios})


def _weights(run: Run, name: str) -> dict[str, Tensor]:
    return load_file(run.folder / "train" / _key_of(run, "train") / f"{name}.safetensors")


def _key_of(run: Run, step: str) -> str:
    stamp = run.stamp(step)
    if not stamp:
        raise ModelError(f"{run.folder}: {step} comes first: python -m training {step}")
    return stamp[0]


def _is_done(run: Run, step: str, key: str) -> bool:
    if run.stamp(step)[:1] != [key]:
        console.rule(f"{step} {run.recipe.name}")
        return False
    console.print(f"{step}: up to date", style="dim")
    return True


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

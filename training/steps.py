"""The verbs of the command line, in the order of STEPS.

Each takes a run and does its step unless it is done. A step's key contains the key of the step
before it: change a recipe, and everything after the change is made again.
"""

import datetime as dt
import hashlib
from collections.abc import Callable
from pathlib import Path

import polars as pl
import torch
from pydantic import JsonValue
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.bundle import MANIFEST, Manifest, new_model, save_bundle
from model.engine import Engine
from model.errors import ModelError
from model.huggingface import checkpoint_files
from model.placement import Placement
from model.semantic_id import SidTable
from training.card import render_card
from training.config import Recipe, TrainerConfig
from training.curve import plot_curve, read_curve
from training.dataset import Histories, read_items
from training.dataset import prepare as prepare_data
from training.embeddings import embed_items
from training.evaluate import some
from training.files import atomic_path
from training.processes import rank
from training.published import published_sids
from training.quantizer import Quantized
from training.quantizer import quantize as fit_codebooks
from training.report import (
    BaselineReport,
    Evaluation,
    measure,
    measure_baselines,
    render_baselines,
    render_evaluation,
)
from training.rqvae import fit_rqvae
from training.run import Run, Semantics, step_key
from training.sid_plot import plot_sids
from training.sid_report import render_sid_report, sid_report
from training.sources import source_files
from training.splits import Split
from training.trainer import StampModule, build_model, fit
from training.windows import source_for

console = Console(stderr=True)


def prepare(run: Run) -> None:
    """Raw interactions and items -> data/."""
    hashes: JsonValue = [[path.name, _sha256(path)] for path in source_files(run.recipe.dataset)]
    config = run.recipe.dataset.model_dump(mode="json", exclude={"folder"})
    key = step_key("prepare", [config, hashes], after="")
    if is_done(run, "prepare", key):
        return
    prepared = prepare_data(run.recipe.dataset)
    prepared.write(run.data)
    console.print(render_card(prepared.card))
    run.write_stamp("prepare", key)


def baselines(run: Run) -> None:
    """What the model has to beat, on the test split -> baselines.json."""
    fields = {"baselines", "sasrec", "max_users", "num_threads"}
    config = run.recipe.model_dump(mode="json", include={"split": True, "evaluation": fields})
    key = step_key("baselines", config, after=key_of(run, "prepare"))
    if is_done(run, "baselines", key):
        return
    torch.set_num_threads(run.recipe.evaluation.num_threads)
    num_items = read_items(run.data).height
    found = measure_baselines(run.split(), num_items, run.recipe.evaluation)
    console.print(render_baselines(found))
    _write(run.folder / "baselines.json", found.model_dump_json(indent=2))
    run.write_stamp("baselines", key)


def quantize(run: Run) -> None:
    """Item texts and training histories, or a published table -> sids/."""
    config = run.recipe.model_dump(mode="json", include={"split", "embedding", "quantizer"})
    hashes: JsonValue = [_sha256(path) for path in _files_of(run.recipe)]
    key = step_key("quantize", [config, hashes], after=key_of(run, "prepare"))
    if is_done(run, "quantize", key):
        return
    train = run.split().train
    items = read_items(run.data)
    popularity = train.popularity(items.height)
    quantized = _semantic_ids(run.recipe, items, train)
    for note in quantized.notes:
        console.print(f"note: {note}")
    report = sid_report(quantized, items["categories"])
    console.print(render_sid_report(report))
    sids = SidTable(quantized.codes, quantized.codebook_sizes, popularity)
    run.write_semantics(Semantics(sids, _placement(run.recipe, quantized)))
    _write(run.folder / "sids" / "report.json", report.model_dump_json(indent=2))
    with atomic_path(run.folder / "sids" / "report.png") as part:
        plot_sids(quantized, report, part)
    run.write_stamp("quantize", key)


def pretrain(run: Run) -> None:
    """A recipe's [pretrainer], if it has one -> pretrain/<key>/, resumed if it was interrupted."""
    if run.recipe.pretrainer is not None:
        _train(run, "pretrain", run.recipe.pretrainer, after="quantize")


def train(run: Run) -> None:
    """Training histories -> train/<key>/, resumed if it was interrupted."""
    after = "quantize" if run.recipe.pretrainer is None else "pretrain"
    _train(run, "train", run.recipe.trainer, after)


def evaluate(run: Run) -> None:
    """The best weights on the test split, beside the baselines -> evaluation.json."""
    baselines(run)
    config = run.recipe.evaluation
    own = config.model_dump(mode="json", exclude={"baselines", "sasrec"})
    key = step_key("evaluate", [own, key_of(run, "baselines")], after=key_of(run, "train"))
    if is_done(run, "evaluate", key):
        return
    torch.set_num_threads(config.num_threads)
    split = run.split()
    text = (run.folder / "baselines.json").read_text(encoding="utf-8")
    beside = BaselineReport.model_validate_json(text)
    found = measure(trained_engine(run, split), split, config, beside)
    console.print(render_evaluation(found))
    _write(run.folder / "evaluation.json", found.model_dump_json(indent=2))
    run.write_stamp("evaluate", key)


def export(run: Run) -> None:
    """Best weights and measurements -> bundles/<name>/<version>/."""
    key = step_key("export", run.recipe.name, after=key_of(run, "evaluate"))
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
    placement = run.read_semantics(engine.catalog.popularity).placement
    heads = _weights(run, "train", "map_heads")
    folder = save_bundle(
        run.bundles, manifest, engine.model, engine.catalog, engine.sids, placement, heads
    )
    run.write_stamp("export", key, version)
    console.print(f"bundle: {folder}")


Step = Callable[[Run], None]

STEPS: tuple[Step, ...] = (prepare, baselines, quantize, pretrain, train, evaluate, export)
SHARED: tuple[Step, ...] = (pretrain, train)
"""What several processes may do together."""


def trained_engine(run: Run, split: Split) -> Engine:
    """The engine of a finished training, before it is a bundle."""
    catalog = run.catalog(split)
    sids = run.read_semantics(catalog.popularity).sids
    shape = run.recipe.model_config_for(sids.codebook_sizes)
    model = new_model(shape).eval()
    model.load_state_dict(_weights(run, "train", "model"))
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


def _files_of(recipe: Recipe) -> list[Path]:
    """The files that quantize reads beside the prepared data; a missing one is its to refuse."""
    encoder = recipe.embedding.encoder
    inside = [] if encoder is None else sorted(encoder.rglob("*"))
    given = [recipe.embedding.vectors, recipe.quantizer.file, *inside]
    return [path for path in given if path is not None and path.is_file()]


def _semantic_ids(recipe: Recipe, items: pl.DataFrame, train: Histories) -> Quantized:
    """Fitted to item vectors, or published; vectors are made only where they are needed."""
    config, popularity = recipe.quantizer, train.popularity(items.height)
    needed = config.kind != "published" or config.unpublished_items == "nearest"
    vectors = embed_items(items, train, recipe.embedding) if needed else None
    if config.kind == "published":
        return published_sids(config, items["item_id"].to_list(), vectors, popularity)
    assert vectors is not None
    fit_to = fit_rqvae if config.kind == "rq-vae" else fit_codebooks
    return fit_to(vectors, config, popularity=popularity)


def _placement(recipe: Recipe, quantized: Quantized) -> Placement:
    """What gives semantic IDs to items that come later."""
    embedding = recipe.embedding
    return Placement(
        codebooks=tuple(torch.from_numpy(codebook) for codebook in quantized.codebooks),
        encoder=quantized.encoder,
        normalize_residuals=recipe.quantizer.by_cosine,
        text_weight=0.0 if embedding.text == "none" else embedding.text_weight,
    )


def _train(run: Run, stage: str, settings: TrainerConfig, after: str) -> None:
    """One stage of training, resumed if it was interrupted -> <stage>/<key>/."""
    files = [] if run.recipe.init_from is None else checkpoint_files(run.recipe.init_from)
    config: JsonValue = [
        {name: value for name, value in run.recipe.model.items() if name != "init_from"},
        [_sha256(path) for path in files],
        settings.model_dump(mode="json"),
    ]
    key = step_key(stage, config, after=key_of(run, after))
    if is_done(run, stage, key):
        return
    module = _module(run, settings, is_first=after == "quantize")
    folder = run.folder / stage / key
    recall = fit(module, folder)
    if rank() > 0:
        return
    for name, part in (("model", module.model), ("map_heads", module.heads)):
        with atomic_path(folder / f"{name}.safetensors") as path:
            save_file(part.state_dict(), path)
    with atomic_path(folder / "curve.png") as path:
        plot_curve(f"{run.recipe.name}, {stage}", read_curve(folder / "tensorboard"), path)
    users = len(module.valid)
    console.print(f"best weights: recall@10 {recall:.4f} on {users:,} validation users")
    run.write_stamp(stage, key)


def _module(run: Run, settings: TrainerConfig, *, is_first: bool) -> StampModule:
    """A stage before its first step: fresh or a checkpoint's weights, or those of [pretrainer]."""
    split = run.split()
    catalog = run.catalog(split)
    semantics = run.read_semantics(catalog.popularity)
    shape = run.recipe.model_config_for(semantics.sids.codebook_sizes)
    source = source_for(settings, split.train, semantics.sids, shape)
    valid = some(split.valid, settings.validation_users)
    init_from = run.recipe.init_from if is_first else None
    model = build_model(shape, settings, semantics.placement.codebooks, init_from)
    module = StampModule(model, settings, source, valid, catalog)
    before = None if is_first else run.recipe.pretrainer
    if before is not None:
        same = before.auxiliary == settings.auxiliary
        heads = _weights(run, "pretrain", "map_heads") if same else {}
        module.start_from(_weights(run, "pretrain", "model"), heads)
    return module


def _weights(run: Run, stage: str, name: str) -> dict[str, Tensor]:
    return load_file(run.folder / stage / key_of(run, stage) / f"{name}.safetensors")


def key_of(run: Run, step: str) -> str:
    """The key of a step that has to be finished, or ModelError."""
    stamp = run.stamp(step)
    if not stamp:
        raise ModelError(f"{run.folder}: {step} comes first: python -m training {step}")
    return stamp[0]


def is_done(run: Run, step: str, key: str) -> bool:
    """Whether a step was finished with this key; says so, or that it begins."""
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

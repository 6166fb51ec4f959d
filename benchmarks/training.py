"""Training throughput against transformers: python -m benchmarks.training [--quick] [--json].

The same T5, by sizes, with the same optimiser, learns from windows as long as Amazon Beauty's
histories. transformers gets them as its Trainer batches them: in random order, a fixed number a
batch, padded to the longest. Ours are sorted by length and cut by a budget of tokens that makes
about as many optimiser steps. All computes on one thread, in interleaved rounds.
"""

import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
import transformers
import typer
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import T5ForConditionalGeneration

from benchmarks.workload import BEAUTY_LENGTHS, FUTURE_WEIGHTS, SHAPES, job, with_ratio
from model.bundle import new_model
from model.config import QwenConfig, T5Config
from model.multi_step import FutureHeads, training_loss
from model.semantic_id import BOS, PAD, vocabulary_size
from training.cost import interleaved_seconds, settle
from training.environment import environment, hardware_name

MOST_ITEMS = 20  # TIGER's length
ROWS = 64  # of a batch of transformers'
BATCH_TOKENS = 2048  # of a batch of ours
BATCHES = 4  # of transformers' in one round
TARGET = 2.0
REFERENCE = "transformers, padded"
LIKE_FOR_LIKE = "ours"

Work = Callable[[], None]


def windows() -> list[int]:
    """Items of each window of a round, in random order."""
    mix = [min(length, MOST_ITEMS) for length in BEAUTY_LENGTHS]
    lengths = mix * (ROWS * BATCHES // len(mix))
    random.Random(0).shuffle(lengths)  # noqa: S311 - not a secret
    return lengths


def padded(lengths: Sequence[int]) -> list[list[int]]:
    """As many rows a batch as ever, in the order given."""
    return [list(lengths[start : start + ROWS]) for start in range(0, len(lengths), ROWS)]


def bucketed(lengths: Sequence[int], tokens_per_item: int) -> list[list[int]]:
    """Like lengths together, within the budget of padded tokens."""
    batches: list[list[int]] = [[]]
    for length in sorted(lengths):
        if (len(batches[-1]) + 1) * length * tokens_per_item > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(length)
    return batches


def steps(parts: Sequence[nn.Module], losses: Callable[[], Iterator[Tensor]]) -> Work:
    """A round: one step of AdamW per loss, gradients clipped as both trainers do."""
    weights = [weight for part in parts for weight in part.parameters()]
    optimizer = torch.optim.AdamW(weights)

    def work() -> None:
        for loss in losses():
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()

    return work


def ours(config: T5Config | QwenConfig, *, num_future_items: int) -> Work:
    """A round of our training: next item, and MAP if it has further items to predict."""
    found = job(config, bucketed(windows(), config.tokens_per_item))
    heads = FutureHeads(config.d_model, num_future_items)
    future_weights = FUTURE_WEIGHTS[:num_future_items]

    def losses() -> Iterator[Tensor]:
        for batch in found.batches:
            yield training_loss(found.model, heads, *batch, future_weights)[0]

    found.model.train()
    return steps([found.model, heads], losses)


def reference(config: T5Config) -> Work:
    """A round of the same model in transformers, on the same windows."""
    model = reference_model(config).train()
    found = job(config, padded(windows()))

    def losses() -> Iterator[Tensor]:
        for batch in found.batches:
            labels = batch.targets[:, 0] + found.model.first_tokens
            yield model(
                input_ids=batch.tokens, attention_mask=batch.mask.long(), labels=labels
            ).loss

    return steps([model], losses)


def reference_model(config: T5Config) -> nn.Module:
    """Untrained."""
    model: nn.Module = T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=vocabulary_size(config.codebook_sizes),
            d_model=config.d_model,
            d_kv=config.d_kv,
            d_ff=config.d_ff,
            num_layers=config.num_layers,
            num_decoder_layers=config.num_decoder_layers,
            num_heads=config.num_heads,
            dropout_rate=config.dropout,
            feed_forward_proj="relu",
            pad_token_id=PAD,
            decoder_start_token_id=BOS,
        )
    )
    return model


def num_parameters(model: nn.Module) -> int:
    """Each shared weight counts once."""
    return sum(weight.numel() for weight in model.parameters())


def measure(config: T5Config, budget_s: float, min_rounds: int = 3) -> dict[str, float]:
    """Windows per second of processor time, by who trains."""
    full = with_ratio(config, 1.0)
    works = {
        REFERENCE: reference(config),
        LIKE_FOR_LIKE: ours(full, num_future_items=0),
        "ours, SAP": ours(config, num_future_items=0),
        "ours, SAP and MAP": ours(config, num_future_items=len(FUTURE_WEIGHTS)),
    }
    best = interleaved_seconds(works, budget_s, min_rounds)
    return {name: len(windows()) / seconds for name, seconds in best.items()}


def report(config: T5Config, speeds: Mapping[str, float]) -> dict[str, JsonValue]:
    """What was found, and of what."""
    ratios = {name: round(speed / speeds[REFERENCE], 3) for name, speed in speeds.items()}
    return {
        "windows_per_s": {name: round(speed, 2) for name, speed in speeds.items()},
        "speedup": {**ratios},
        "target_speedup": TARGET,
        "reached": ratios[LIKE_FOR_LIKE] >= TARGET,
        "parameters": {
            REFERENCE: num_parameters(reference_model(config)),
            LIKE_FOR_LIKE: num_parameters(new_model(config)),
        },
        "optimizer_steps": {
            REFERENCE: len(padded(windows())),
            LIKE_FOR_LIKE: len(bucketed(windows(), config.tokens_per_item)),
        },
        "transformers": transformers.__version__,
        "config": config.model_dump(mode="json"),
    }


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Three rounds.")] = False,
    record_in: Annotated[
        Path | None, typer.Option("--record", help="Write a .json into this folder.")
    ] = None,
) -> None:
    """Compare training throughput, on one thread."""
    settle()
    found_in = environment("benchmarks.training", sys.argv[1:])
    config = SHAPES["t5"].model_copy(update={"max_history_items": MOST_ITEMS})
    assert isinstance(config, T5Config)
    speeds = measure(config, budget_s=0 if quick else 60)
    result = report(config, speeds) | {"environment": json.loads(json.dumps(found_in))}
    text = json.dumps(result, indent=1)
    if record_in is not None:
        stem = f"{found_in['date']}-{hardware_name(found_in)}-training"
        (record_in / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)
        return
    table = Table("who trains", "windows/s", f"against {REFERENCE}")
    for name, speed in speeds.items():
        table.add_row(name, f"{speed:.1f}", f"{speed / speeds[REFERENCE]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    app()

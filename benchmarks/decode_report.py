"""The decoding benchmark for people: tables on the terminal, and a record."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.decode_result import TARGETS, Comparison, Result
from benchmarks.reporting import Rows, record_path, show_tables, write_report

COMPARED = ["rows", "beams", "items", "ours ms", "theirs ms", "x", "median x", "wall x"]

METHOD = (
    "Both sides compute from the token tensor to the ranked semantic IDs, with the same weights in "
    "one process, and found the same semantic IDs in the same order before anything was timed. "
    "Their prefix function looks each prefix up in a dictionary made beforehand. The weights are "
    "random, but a state says in coordinates of its own which level it predicts, and transformers' "
    "output weights of other levels read that and say no: its softmax over all levels' tokens is "
    "then ours over one codebook, at its own full cost. Times are of processor time over "
    "interleaved rounds, least unless it says median or wall."
)


def show(result: Result) -> None:
    """Print everything."""
    show_tables(_tables(result), _remarks(result))


def write_record(result: Result, folder: Path) -> None:
    """Write the .json and .md of today's measurement on this hardware."""
    path = record_path(folder, result.environment, "decode")
    parts = ["# Constrained decoding beside its peers", METHOD, *_remarks(result)]
    write_report(path, result.to_json(), parts, _tables(result))


def _tables(result: Result) -> Iterable[tuple[str, list[str], Rows]]:
    yield (
        "Targets: times as fast as transformers",
        ["what", "target", "found", "reached"],
        [
            [name, f"{TARGETS[name]:.0f}", f"{result.speedups[name]:.2f}", "yes" if yes else "NO"]
            for name, yes in result.reached().items()
        ],
    )
    if result.vs_transformers is not None:
        yield "transformers generate, both float32", COMPARED, _compared(result.vs_transformers)
    if result.all_on is not None:
        speed = result.all_on.speed
        how = f"{speed.dtype}, ratio {speed.ratio:.2f}{', torch.compile' if speed.compiled else ''}"
        title = f"all_on: ours {how}; transformers float32, all tokens"
        yield title, COMPARED, _compared(result.all_on.comparisons)
        title = "The same, ours in bfloat16 by torch, nothing compiled"
        yield title, COMPARED, _compared(result.all_on.in_bfloat16)
        drift = [[name, f"{share:.1%}"] for name, share in result.all_on.drift.items()]
        yield "Best ten that remain, untrained weights", ["changed", "of ten"], drift
    if result.vs_cornac is not None:
        yield "cornac TIGER generate_beam, both float32", COMPARED, _compared(result.vs_cornac)
    yield _roofline(result)


def _compared(comparisons: Sequence[Comparison]) -> Rows:
    return [
        [
            *(str(number) for number in (each.rows, each.beams, each.items)),
            f"{1e3 * each.ours.least_s:.1f}",
            f"{1e3 * each.theirs.least_s:.1f}",
            f"{each.speedup:.2f}",
            f"{each.theirs.median_s / each.ours.median_s:.2f}",
            f"{each.theirs.median_wall_s / each.ours.median_wall_s:.2f}",
        ]
        for each in comparisons
    ]


def _roofline(result: Result) -> tuple[str, list[str], Rows]:
    title = "Our search in float32, and its matrix products done alone"
    head = ["search", "ms", "products ms", "attention ms", "share", "products"]
    head += ["GFLOP", "GFLOP/s", "alone GFLOP/s"]
    rows = [
        [
            name,
            f"{each.search_ms:.1f}",
            f"{each.products_ms:.1f}",
            f"{each.attention_ms:.1f}",
            f"{each.share:.0%}",
            str(each.num_products),
            f"{each.gflop:.2f}",
            f"{each.search_gflops:.0f}",
            f"{each.product_gflops:.0f}",
        ]
        for name, each in result.roofline.items()
    ]
    return title, head, rows


def _remarks(result: Result) -> list[str]:
    where = result.environment
    everything = where["versions"] | result.peers
    versions = ", ".join(f"{name} {version}" for name, version in everything.items())
    lines = [f"{peer} skipped: {how}" for peer, how in result.skipped.items()]
    if result.left_out:
        lines.append(f"Left out: {result.left_out}.")
    lines.append(f"Our blocks in float32 are computed by: {result.kernels}.")
    lines.append(
        f"{where['date']}, commit {where['commit']}, `{where['command']}`; {where['cpu']}, "
        f"{where['cores']} cores, {where['memory_gb']} GB, {where['torch_threads']} torch thread, "
        f"load {where['load_average']} at the start; {versions}."
    )
    return lines

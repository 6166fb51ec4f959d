"""The catalog benchmark for people: tables on the terminal, and a record with a plot."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.catalog_plot import plot
from benchmarks.catalog_result import Growth, Result
from benchmarks.reporting import Rows, record_path, show_tables, write_report


def show(result: Result) -> None:
    """Print everything."""
    show_tables(_tables(result), [_conditions(result)])


def write_record(result: Result, folder: Path) -> None:
    """Write the .json, .md and .png of today's measurement on this hardware."""
    path = record_path(folder, result.environment, "catalog")
    picture = path.with_name(f"{path.name}.png")
    plot(result, picture)
    parts = ["# Large catalogs, and rules about them", _conditions(result)]
    parts.append(f"![requests, index and changes by size, answers by rule]({picture.name})")
    write_report(path, result.to_json(), parts, _tables(result))


def _tables(result: Result) -> Iterable[tuple[str, list[str], Rows]]:
    verdicts = [
        [each.what, f"{each.target:g}", f"{each.found:.3g}", "yes" if each.reached else "NO"]
        for each in result.verdicts()
    ]
    largest = result.growth[-1].items
    title = f"Targets; 10m stands for the largest catalog, {largest:,} items"
    yield title, ["what", "target", "found", "reached"], verdicts
    yield _growth(result.growth)
    yield _in_beam(result)
    yield _afterwards(result)


def _growth(growth: Sequence[Growth]) -> tuple[str, list[str], Rows]:
    head = ["", *(f"{each.items:,} items" for each in growth)]
    lines = {
        "one request, ms": "request_ms",
        "build the index, s": "build_s",
        "load it, mapped, s": "load_s",
        "verify its hashes, s": "verify_s",
        "index, bytes an item, mapped": "bytes_per_item",
        "touched of it by loading and first answers, MB": "mapped_mb",
        "own memory for that, MB": "own_mb",
        "make the catalog of ids, s": "catalog_s",
        "catalog, bytes an item": "catalog_bytes_per_item",
        "add an item, ms": "add_one_ms",
        "add a hundred, ms": "add_hundred_ms",
        "change an item, ms": "change_ms",
        "remove the first item, ms": "first_removal_ms",
        "remove another, ms": "removal_ms",
        "distinct semantic IDs": "leaves",
    }
    rows = [[label, *(f"{getattr(x, name):,}" for x in growth)] for label, name in lines.items()]
    return "The same model over more items", head, rows


def _in_beam(result: Result) -> tuple[str, list[str], Rows]:
    head = ["items", "rule", "share", "returned", "least", "full", "legal"]
    head += ["request ms", "against none", "first use ms"]
    rows = [
        [
            f"{each.items:,}",
            each.rule,
            f"{each.share:.4g}",
            f"{each.returned:g}",
            str(each.least_returned),
            _yes(each.full),
            _yes(each.legal),
            f"{each.request_ms:.2f}",
            f"{each.ratio:.3f}",
            "-" if each.compile_ms is None else f"{each.compile_ms:.1f}",
        ]
        for each in result.filters.in_beam
    ]
    rows += [
        [
            f"{each.items:,}",
            "8 rows, 8 filters",
            *["-"] * 5,
            f"{each.request_ms:.2f}",
            f"{each.ratio:.3f}",
            "-",
        ]
        for each in result.filters.batches
    ]
    return "Rules inside the beam, 20 items asked for", head, rows


def _afterwards(result: Result) -> tuple[str, list[str], Rows]:
    rules = list(result.filters.afterwards[0].returned)
    head = ["items", "beam", "request ms", "against none", *(f"left by {rule}" for rule in rules)]
    rows = [
        [f"{each.items:,}", str(each.beam_width), f"{each.request_ms:.1f}", f"{each.ratio:.2f}"]
        + [f"{each.returned[rule]:g}" for rule in rules]
        for each in result.filters.afterwards
    ]
    return "Filtered after the search, 20 items asked for", head, rows


def _yes(answer: bool) -> str:
    return "yes" if answer else "NO"


def _conditions(result: Result) -> str:
    where = result.environment
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    effort = "A quick run. " if result.quick else ""
    return (
        f"{effort}{where['date']}, commit {where['commit']}, `{where['command']}`; "
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gb']} GB, "
        f"{where['torch_threads']} torch thread, load {where['load_average']} at the start; "
        f"{versions}. Times are least seconds of processor time over interleaved rounds; files are "
        "in the page cache. Semantic IDs are uniformly random, 4 levels of 256 codes; the T5 is "
        "untrained, 4 + 4 blocks x 128, and reads 80 tokens; beam 20."
    )

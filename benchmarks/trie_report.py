"""The benchmark of the index for people: tables on the terminal, and a record."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.reporting import Rows, record_path, show_tables, write_report
from benchmarks.trie_result import BuildCell, Result, SearchCell


def show(result: Result) -> None:
    """Print everything."""
    show_tables(_tables(result), [_conditions(result)])


def write_record(result: Result, folder: Path) -> None:
    """Write the .json and .md of today's measurement on this hardware."""
    path = record_path(folder, result.environment, "trie")
    parts = ["# What keeping inside the catalog costs", _conditions(result)]
    write_report(path, result.to_json(), parts, _tables(result))


def _tables(result: Result) -> Iterable[tuple[str, list[str], Rows]]:
    yield (
        "Targets, against STATIC",
        ["what", "target", "found", "reached"],
        [
            [each.what, f"{each.target:.2f}", f"{each.found:.3f}", each.answer]
            for each in result.verdicts()
        ],
    )
    timed = _names([cell.ms for cell in result.searches])
    yield (
        "One search, all levels, ms; ratios over STATIC: ours; by level without keys and "
        "values; compiled",
        ["items", "codes", "batch x beams", *timed, "ratio", "by level", "compiled"],
        [_search(cell, timed) for cell in result.searches],
    )
    built = _names([cell.seconds for cell in result.builds])
    yield (
        "An index from semantic IDs in the items' order, s (MiB of the index)",
        ["items", "codes", *built, "STATIC / ours"],
        [_build(cell, built) for cell in result.builds],
    )


def _names(found: Sequence[dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for each in found for name in each))


def _search(cell: SearchCell, names: Sequence[str]) -> list[str]:
    setting = cell.setting
    what = [f"{setting.num_items:,}", f"{setting.levels} x {setting.vocabulary}"]
    times = [f"{cell.ms[name]:.2f}" if name in cell.ms else "-" for name in names]
    compiled = "-" if cell.ratio_compiled is None else f"{cell.ratio_compiled:.2f}"
    ratios = [f"{cell.ratio:.2f}", f"{cell.ratio_by_level:.2f}", compiled]
    return [*what, f"{setting.batch} x {setting.beam_width}", *times, *ratios]


def _build(cell: BuildCell, names: Sequence[str]) -> list[str]:
    def both(name: str) -> str:
        if name not in cell.seconds:
            return "-"
        size = f" ({cell.mib[name]:.1f})" if name in cell.mib else ""
        return f"{cell.seconds[name]:.3f}{size}"

    speedup = "-" if cell.speedup is None else f"{cell.speedup:.1f}"
    what = [f"{cell.num_items:,}", f"{cell.levels} x {cell.vocabulary}"]
    return [*what, *map(both, names), speedup]


def _conditions(result: Result) -> str:
    where = result.environment
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    effort = "A quick run: fewer contenders and rounds. " if result.quick else ""
    skipped = dict(pair for cell in result.searches for pair in cell.skipped.items())
    missing = "".join(f" {name} did not run: {reason}." for name, reason in skipped.items())
    return (
        f"{effort}{where['date']}, commit {where['commit']}, `{where['command']}`; "
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gb']} GB, "
        f"{where['torch_threads']} torch thread, load {where['load_average']} at the start; "
        f"{versions}. Times are least seconds of processor time over interleaved rounds, log "
        "softmax included. All contenders get the same random scores, found the same semantic IDs "
        "and scores before they were timed, and return semantic IDs; ours is the service's beam "
        "search, which also looks up each beam's keys and values, here of one number, and reads "
        "the last levels at once where beams have few leaves left. No peer does either, so the "
        f"target is for our time level by level, less what its keys and values take.{missing}"
    )

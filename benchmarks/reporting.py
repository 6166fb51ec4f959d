"""What all benchmarks report alike: tables on the terminal, and records of a date and hardware."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from training.environment import Environment, hardware_name

MIN_WIDTH = 120  # where less fits, a terminal can scroll

Rows = list[list[str]]
Titled = tuple[str, list[str], Rows]
"""A title, a head and rows."""


def show_tables(tables: Iterable[Titled], remarks: Iterable[str]) -> None:
    """Print the tables, and what is to be said about them."""
    console = Console()
    console = Console(width=max(console.width, MIN_WIDTH))
    for title, head, rows in tables:
        table = Table(*head, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for remark in remarks:
        console.print(remark)


def record_path(folder: Path, found_in: Environment, topic: str) -> Path:
    """Where today's record of a topic on this hardware goes; a suffix is still to be added.

    Makes the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{found_in['date']}-{hardware_name(found_in)}-{topic}"


def write_report(
    path: Path, result: object, paragraphs: Sequence[str], tables: Iterable[Titled]
) -> None:
    """Write the record's .json and .md.

    Args:
        path: from `record_path`.
        result: everything, for machines; what JSON can hold.
        paragraphs: the page's title and what stands above the tables.
        tables: each a section.
    """
    path.with_name(f"{path.name}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    sections = [f"## {title}\n\n{markdown(head, rows)}" for title, head, rows in tables]
    page = "\n\n".join([*paragraphs, *sections])
    path.with_name(f"{path.name}.md").write_text(page + "\n", "utf-8")


def markdown(head: Sequence[str], rows: Rows) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""What a client saw: a row for each request, in a parquet file."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from loadtest.errors import LoadTestError

NO_ANSWER = 0
CLIENT_FILE = "client.json"  # beside the rows: when they began, and what the client used
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "name": pl.String,
    "due_s": pl.Float64,  # since the start; what the latency counts from
    "sent_s": pl.Float64,  # null: it was never sent
    "done_s": pl.Float64,  # null: it was never answered
    "status": pl.Int16,  # of HTTP, or NO_ANSWER
    "fault": pl.String,  # what was wrong about the content, or about the connection
    "degraded": pl.List(pl.String),  # what an answer had to do without, as it says
}


@dataclass(frozen=True)
class Row:
    """One request; see SCHEMA."""

    name: str
    due_s: float
    sent_s: float | None
    done_s: float | None
    status: int
    fault: str | None = None
    degraded: tuple[str, ...] = ()


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write the rows, atomically."""
    part = path.with_name(f"{path.name}.part")
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA}
    pl.DataFrame(columns, schema=SCHEMA).sort("due_s").write_parquet(part)
    part.replace(path)


def read_rows(path: Path) -> pl.DataFrame:
    """The rows of a file, by the time they were due, or LoadTestError."""
    try:
        return pl.read_parquet(path, glob=False).match_to_schema(SCHEMA)
    except (OSError, PolarsError) as error:
        raise LoadTestError(f"{path}: not the record of a load test") from error

"""Users and conditions for a service, and its answers outside a run."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loadtest.errors import LoadTestError
from loadtest.target import Target, made_up_visitors, read_visitors, wheres_for
from tests.loadtest import servers


def item(item_id: str, popularity: int, **attributes: object) -> dict[str, Any]:
    """An item as GET /items shows it."""
    return {"item_id": item_id, "popularity": popularity, "attributes": attributes}


ITEMS = [
    item("a", 90, year=1990, tags=["x", "it's"], brand=None),
    item("b", 9, year=None, tags=["x"], brand="Acme"),
    item("c", 1, year=2000, tags=[], brand="Acme"),
]


def test_conditions_are_about_what_the_catalog_has() -> None:
    """Medians of numbers, commonest words of lists; text alone has none; quotes are doubled."""
    assert wheres_for(ITEMS) == (
        "popularity >= 9",
        "array_contains(\"tags\", 'x')",
        "array_contains(\"tags\", 'it''s')",
        '"year" >= 2000',
    )


def test_made_up_users_like_what_is_popular() -> None:
    """Items come about as often as they weigh; the same seed makes the same users."""
    visitors = made_up_visitors(ITEMS, seed=4)
    items = [item_id for visitor in visitors for item_id in visitor.item_ids]

    assert items.count("a") > 5 * items.count("b") > 5 * items.count("c")
    assert visitors == made_up_visitors(ITEMS, seed=4)
    assert len({visitor.user_id for visitor in visitors}) == len(visitors)


def test_real_users_come_with_the_longest_history_first(tmp_path: Path) -> None:
    """Those without a history do not come; histories are cut to the newest hundred."""
    users = {"long": [str(n) for n in range(150)], "none": [], "short": ["1"], "null": None}
    path = tmp_path / "histories.parquet"
    pl.DataFrame({"user_id": list(users), "item_ids": list(users.values())}).write_parquet(path)

    visitors = read_visitors(path, seed=0)

    assert [visitor.user_id for visitor in visitors] == ["long", "short"]
    assert visitors[0].item_ids == tuple(str(n) for n in range(50, 150))


def test_a_file_without_histories_is_refused(tmp_path: Path) -> None:
    """Not parquet, other columns, or nobody in it."""
    path = tmp_path / "histories.parquet"
    path.write_text("user_id,item_ids", "utf-8")
    with pytest.raises(LoadTestError, match="not a parquet file"):
        read_visitors(path, seed=0)

    pl.DataFrame({"user_id": ["u"], "item_ids": [[]]}).write_parquet(path)
    with pytest.raises(LoadTestError, match="no user has a history"):
        read_visitors(path, seed=0)


def test_an_answer_that_is_no_success_is_an_error() -> None:
    """It names the request and the status."""
    with (
        servers.serving(servers.failing()) as url,
        pytest.raises(LoadTestError, match=r"POST .*/recommend: status 500"),
    ):
        Target(url).call("POST", "/recommend", {})


def test_a_service_that_is_not_there_is_waited_for_and_given_up() -> None:
    """After the time that was given."""
    with pytest.raises(LoadTestError, match=r"not ready within 0\.1 s"):
        Target("http://127.0.0.1:1").until_ready(0.1)

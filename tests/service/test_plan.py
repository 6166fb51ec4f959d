"""The plan: who gets which version, and how it is kept."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model.errors import BundleError
from service.plan import Plan, PlanFile, bucket

USERS = [f"user-{number}" for number in range(4_000)]


def test_a_split_is_by_percentage_and_leaves_the_rest_to_the_active_version() -> None:
    """Within what chance allows of four thousand users."""
    plan = Plan(active="a", split={"b": 10, "c": 30})

    versions = [plan.version_of(user) for user in USERS]

    shares = {version: versions.count(version) / len(USERS) for version in (None, "b", "c")}
    assert shares == {
        None: pytest.approx(0.6, abs=0.03),
        "b": pytest.approx(0.1, abs=0.02),
        "c": pytest.approx(0.3, abs=0.03),
    }


def test_a_user_stays_where_they_are_when_the_share_grows() -> None:
    """Who was in the trial at ten percent still is at twenty."""
    ten, twenty = Plan(split={"b": 10}), Plan(split={"b": 20})

    before = {user for user in USERS if ten.version_of(user)}

    assert before
    assert before <= {user for user in USERS if twenty.version_of(user)}


def test_nobody_in_particular_gets_the_active_version() -> None:
    """Without a user there is nothing to keep stable."""
    assert Plan(split={"b": 100}).version_of(None) is None


@given(st.text(min_size=1))
def test_places_are_stable_and_independent(user: str) -> None:
    """The same each time, in [0, 1), and another one for another purpose."""
    place = bucket(user)

    assert place == bucket(user)
    assert 0 <= place < 1
    assert place != bucket(user, "shadow")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"split": {"a": 60, "b": 60}}, "more than 100"),
        ({"split": {"newest": 10}}, "only `active`"),
        ({"shadow": {"version": "newest"}}, "only `active`"),
        ({"active": "a", "split": {"a": 10}}, "what is left"),
        ({"split": {"a": 0}}, "greater than 0"),
        ({"more": 1}, "not permitted"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, object], why: str) -> None:
    """With what is wrong about it."""
    with pytest.raises(ValidationError, match=why):
        Plan.model_validate(wrong)


def test_a_plan_comes_back_from_its_file(tmp_path: Path) -> None:
    """And no file means the newest version for everybody."""
    file = PlanFile(tmp_path / "serving.json")
    plan = Plan.model_validate({"active": "a", "split": {"b": 5}, "shadow": {"version": "c"}})

    before, kept, after = file.read(), file.write(plan), file.read()

    assert (before, kept, after) == (Plan(), True, plan)
    assert [path.name for path in tmp_path.iterdir()] == ["serving.json"]


def test_a_plan_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A folder that is not there stands for a disk that is full or read-only."""
    assert not PlanFile(tmp_path / "none" / "serving.json").write(Plan())


@pytest.mark.parametrize("text", ["", "{", '{"split": {"a": 101}}', "[]"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    """With what is wrong in it."""
    path = tmp_path / "serving.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(BundleError, match=r"serving\.json: "):
        PlanFile(path).read()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A folder in its place, for example."""
    (tmp_path / "serving.json").mkdir()

    with pytest.raises(BundleError, match=r"serving\.json: "):
        PlanFile(tmp_path / "serving.json").read()

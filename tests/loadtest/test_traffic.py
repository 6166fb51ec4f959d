"""Who comes and what they ask; what is wrong about an answer."""

import json
import random
from collections import Counter

import pytest

from loadtest.traffic import DEFAULT_MIX, NAMES, Call, Kind, Traffic, Visitor, Zipf, fault_in

VISITORS = [
    Visitor(f"user/{place}", tuple(f"i{n}" for n in range(place + 1))) for place in range(5)
]


def traffic(mix: dict[Kind, float], wheres: tuple[str, ...] = (), seed: int = 0) -> Traffic:
    """Requests of VISITORS."""
    return Traffic(VISITORS, wheres, mix, zipf=1.07, limit=7, seed=seed)


def body_of(call: Call) -> dict[str, object]:
    """What a call sends."""
    assert call.body is not None
    found = json.loads(call.body)
    assert isinstance(found, dict)
    return found


def answer(*item_ids: str, degraded: tuple[str, ...] = ()) -> dict[str, object]:
    """What a service recommends."""
    return {"items": [{"item_id": item_id} for item_id in item_ids], "degraded": list(degraded)}


@pytest.mark.parametrize("exponent", [0.0, 1.07, 2.0])
def test_ranks_follow_zipfs_law(exponent: float) -> None:
    """The rank r is drawn in proportion to 1 / (r + 1)^exponent."""
    zipf, random_ = Zipf(20, exponent), random.Random(3)
    weights = [(rank + 1) ** -exponent for rank in range(20)]

    counts = Counter(zipf.draw(random_) for _ in range(40_000))

    for rank in (0, 1, 4, 19):
        expected = 40_000 * weights[rank] / sum(weights)
        assert counts[rank] == pytest.approx(expected, abs=5 * expected**0.5)


def test_the_mix_is_what_was_asked_for() -> None:
    """Kinds come as often as they weigh, under names of their own."""
    mixed = traffic(DEFAULT_MIX)

    counts = Counter(mixed.next_call().name for _ in range(20_000))

    assert counts.keys() == {NAMES[kind] for kind in DEFAULT_MIX}
    for kind, weight in DEFAULT_MIX.items():
        assert counts[NAMES[kind]] == pytest.approx(20_000 * weight, rel=0.1)


def test_the_same_seed_asks_the_same() -> None:
    """Two runs send the same requests; another seed sends others."""
    calls = [[traffic(DEFAULT_MIX, seed=s).next_call() for _ in range(1)] for s in (1, 1)]
    runs = [traffic(DEFAULT_MIX, seed=seed) for seed in (1, 1, 2)]
    first, again, other = ([run.next_call() for _ in range(50)] for run in runs)

    assert calls[0] == calls[1]
    assert first == again != other


def test_every_kind_of_request_asks_what_its_name_says() -> None:
    """Known users by id, others by history; strangers are new each time; ids are escaped."""
    known, inline = (body_of(traffic({kind: 1}).next_call()) for kind in ("known", "inline"))
    cold = traffic({"cold": 1})
    strangers = {body_of(cold.next_call())["user_id"] for _ in range(3)}
    history = traffic({"history": 1}).next_call()

    assert known["user_id"] in {visitor.user_id for visitor in VISITORS}
    assert known["limit"] == 7
    assert tuple(inline["history"]) in {visitor.item_ids for visitor in VISITORS}  # type: ignore[arg-type]
    assert "user_id" not in inline
    assert len(strangers) == 3
    assert history.method == "GET"
    assert history.path.startswith("/users/user%2F")


def test_a_filter_is_a_condition_or_else_a_list_of_items() -> None:
    """WHERE if the catalog has something to ask about, `deny` if not."""
    where = body_of(traffic({"where": 1}, ("year >= 1990",)).next_call())
    deny = body_of(traffic({"where": 1}).next_call())

    assert where["filter"] == {"where": "year >= 1990"}
    assert set(deny["filter"]["deny"]) <= {f"i{n}" for n in range(5)}  # type: ignore[index]


def test_an_event_takes_the_best_item_that_its_user_was_offered() -> None:
    """So that the next answer cannot hold it unless the event was missed."""
    calls = traffic({"events": 1})
    asked = Call(NAMES["known"], "POST", "/recommend", "{}", "user/2")
    calls.offered(asked, answer("best", "second"))

    event = calls.next_call()
    after = calls.after(event)

    assert body_of(event) == {"events": [{"user_id": "user/2", "item_id": "best"}]}
    assert (after.name, after.user_id, after.item_id) == (NAMES["after"], "user/2", "best")
    assert body_of(after)["user_id"] == "user/2"


def test_an_event_without_an_offer_repeats_an_item() -> None:
    """Of the user's own history."""
    event = traffic({"events": 1}).next_call()

    owner = next(visitor for visitor in VISITORS if visitor.user_id == event.user_id)
    assert event.item_id in owner.item_ids


def test_an_answer_that_forgot_the_event_is_a_fault() -> None:
    """Unless it says that it had to do without the history."""
    after = Call(NAMES["after"], "POST", "/recommend", "{}", "u", "seen")

    assert fault_in(after, answer("new")) is None
    assert "read-your-writes" in (fault_in(after, answer("new", "seen")) or "")
    assert fault_in(after, answer("new", "seen", degraded=("history",))) is None


def test_an_item_that_comes_twice_is_a_fault() -> None:
    """In a recommendation; other answers have no such items."""
    known = Call(NAMES["known"], "POST", "/recommend", "{}", "u")

    assert fault_in(known, answer("a", "b", "a")) == "an item came twice"
    assert fault_in(Call(NAMES["history"], "GET", "/", None, "u"), answer("a", "a")) is None

"""The breaker: five failures open it, two seconds later one call decides."""

import asyncio
from collections.abc import Sequence

import pytest

from service.errors import HistoryStoreError, StoreUnreachableError
from service.history.breaker import MAX_FAILURES, OPEN_S, Breaker, GuardedHistoryStore
from service.history.memory import MemoryHistoryStore
from tests.service.history.conftest import Clock


class MoodyStore(MemoryHistoryStore):
    """A store that fails when told to, and can be held up."""

    def __init__(self) -> None:
        super().__init__(max_items=10)
        self.error: HistoryStoreError | None = StoreUnreachableError("nobody is there")
        self.num_calls = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def get_many(self, user_ids: Sequence[str]) -> list[list[str] | None]:
        """The error, or the histories, as soon as the gate is open."""
        self.num_calls += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return await super().get_many(user_ids)


@pytest.fixture
def moody() -> MoodyStore:
    """The store behind the breaker."""
    return MoodyStore()


@pytest.fixture
def guarded(moody: MoodyStore, clock: Clock) -> GuardedHistoryStore:
    """The breaker in front of it."""
    return GuardedHistoryStore(moody, Breaker("moody", clock))


async def fail(store: GuardedHistoryStore, times: int) -> None:
    """So many calls, each of which fails."""
    for _ in range(times):
        with pytest.raises(HistoryStoreError):
            await store.get_many(["ann"])


async def test_an_open_breaker_asks_nobody(guarded: GuardedHistoryStore, moody: MoodyStore) -> None:
    """The sixth call fails without the store, with the error of one that does not answer."""
    await fail(guarded, MAX_FAILURES)

    with pytest.raises(StoreUnreachableError, match="left alone"):
        await guarded.get_many(["ann"])

    assert (moody.num_calls, guarded.breaker_state) == (MAX_FAILURES, "open")


async def test_failures_count_in_a_row(guarded: GuardedHistoryStore, moody: MoodyStore) -> None:
    """An answer in between begins the count anew."""
    error = moody.error
    await fail(guarded, MAX_FAILURES - 1)
    moody.error = None
    await guarded.get_many(["ann"])
    moody.error = error
    await fail(guarded, MAX_FAILURES - 1)

    assert guarded.breaker_state == "closed"


async def test_errors_that_are_answers_do_not_open_it(
    guarded: GuardedHistoryStore, moody: MoodyStore
) -> None:
    """A store that refuses is there, and fast."""
    moody.error = HistoryStoreError("no memory left")

    await fail(guarded, 2 * MAX_FAILURES)

    assert (moody.num_calls, guarded.breaker_state) == (2 * MAX_FAILURES, "closed")


async def test_one_call_tries_whether_the_store_is_back(
    guarded: GuardedHistoryStore, moody: MoodyStore, clock: Clock
) -> None:
    """The others are refused meanwhile; its answer closes the breaker."""
    await fail(guarded, MAX_FAILURES)
    clock.now_s += OPEN_S
    moody.error = None
    moody.gate.clear()
    trial = asyncio.create_task(guarded.get_many(["ann"]))
    await asyncio.sleep(0)
    await fail(guarded, 1)
    state_meanwhile = guarded.breaker_state
    moody.gate.set()

    assert await trial == [[]]
    assert await guarded.get_many(["ann"]) == [[]]
    assert (state_meanwhile, guarded.breaker_state) == ("half_open", "closed")


async def test_a_failed_trial_opens_it_for_as_long_again(
    guarded: GuardedHistoryStore, moody: MoodyStore, clock: Clock
) -> None:
    """One failure is enough then."""
    await fail(guarded, MAX_FAILURES)
    clock.now_s += OPEN_S
    await fail(guarded, 1)
    clock.now_s += OPEN_S / 2
    await fail(guarded, 1)

    assert (moody.num_calls, guarded.breaker_state) == (MAX_FAILURES + 1, "open")


async def test_a_call_is_finished_though_its_caller_is_cancelled(
    guarded: GuardedHistoryStore, moody: MoodyStore
) -> None:
    """Closing waits for it, too: no connection is left in the middle of an answer."""
    moody.gate.clear()
    caller = asyncio.create_task(guarded.get_many(["ann"]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    closing = asyncio.create_task(guarded.close())
    await asyncio.sleep(0)
    closed_early = closing.done()
    moody.gate.set()
    await closing

    assert caller.cancelled()
    assert not closed_early
    assert moody.num_calls == 1

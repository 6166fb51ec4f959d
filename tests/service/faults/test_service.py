"""The service itself is changed, flooded, left and stopped under load."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import httpx

from benchmarks.http_load import Call, Plan, result_of, start_client
from tests.service.conftest import Start
from tests.service.fakes import PATIENCE_S
from tests.service.faults.load import NO_ANSWER, calling, serve
from tests.service.versions import damage

BODY = {"history": ["i1", "i2"], "limit": 5, "beam_width": 40}
QUEUE_ROWS = 8


def store(folder: Path) -> str:
    """The URL of a durable store in the folder."""
    return f"sqlite:///{folder}/histories.db"


async def test_versions_are_switched_twenty_times(start: Start, tmp_path: Path) -> None:
    """Nobody waits long, and nobody is refused."""
    process = serve(start, tmp_path, store(tmp_path))
    async with calling(process.url) as load:
        for switch in range(20):
            path = f"/models/v{switch % 2 + 1}/activate"
            assert (await load.client.post(path)).status_code == 200
        await load.rounds(3)
        lost = await load.lost()

    assert (lost, load.tally.wrong, load.tally.degraded) == ({}, [], 0)
    assert load.tally.seen() == {200}


async def test_a_version_is_damaged_on_disk(start: Start, tmp_path: Path) -> None:
    """One that is not loaded is refused; the one that is goes on from memory."""
    process = serve(start, tmp_path, store(tmp_path))
    async with calling(process.url) as load:
        for version in ("v1", "v2"):
            damage(tmp_path / "bundles" / version)
        refused = await load.client.post("/models/v1/activate")
        await load.rounds(5)
        lost = await load.lost()

    assert (refused.status_code, refused.json()["code"]) == (409, "model_unusable")
    assert "SHA-256" in refused.json()["detail"]
    assert (lost, load.tally.wrong, load.tally.degraded) == ({}, [], 0)
    assert load.tally.seen() == {200}


async def test_one_client_in_ten_leaves_before_its_answer(start: Start, tmp_path: Path) -> None:
    """The others notice nothing; the queue is empty in the end."""
    process = serve(start, tmp_path, store(tmp_path), STAMP_MAX_QUEUE_ROWS="10000")
    async with calling(process.url, rude=10) as load:
        await load.rounds(30)
        lost = await load.lost()
    async with httpx.AsyncClient(base_url=process.url) as client:
        for _ in range(100):  # the last ones may just have left
            metrics = (await client.get("/metrics")).text
            if "stamp_queue_rows 0.0" in metrics:
                break
            await asyncio.sleep(0.05)

    assert (lost, load.tally.wrong) == ({}, [])
    assert load.tally.seen() == {200}
    assert 'stamp_unanswered_rows_total{code="client_closed_request"}' in metrics
    assert "stamp_queue_rows 0.0" in metrics


async def test_a_flood_of_five_times_the_queue(start: Start, tmp_path: Path) -> None:
    """What fits is answered, the rest is told when to come back; afterwards all is as before."""
    variables = {"STAMP_MAX_QUEUE_ROWS": str(QUEUE_ROWS), "STAMP_MAX_BATCH_ROWS": "4"}
    process = serve(start, tmp_path, store(tmp_path), **variables)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=process.url, timeout=PATIENCE_S, limits=limits) as client:
        floods = [
            await asyncio.gather(
                *(client.post("/recommend", json=BODY) for _ in range(5 * (QUEUE_ROWS + 4)))
            )
            for _ in range(5)
        ]
        after = await client.post("/recommend", json=BODY)
    answers = [answer for flood in floods for answer in flood]
    statuses = Counter(answer.status_code for answer in answers)
    print(dict(statuses))  # noqa: T201  # pytest -s shows it

    assert statuses.keys() == {200, 429}
    assert min(statuses.values()) > 5
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)
    assert after.status_code == 200


async def test_callers_who_are_refused_and_ask_again_at_once(start: Start, tmp_path: Path) -> None:
    """A storm of refusals leaves the model most of its time."""
    variables = {"STAMP_MAX_QUEUE_ROWS": "8", "STAMP_MAX_BATCH_ROWS": "8"}
    process = serve(start, tmp_path, "memory://", **variables)

    async def answered(num_callers: int) -> tuple[float, set[int]]:
        plan = Plan(process.url, [Call("/recommend", BODY)], num_callers, seconds=2.0)
        load = await asyncio.to_thread(lambda: result_of(start_client(plan)))
        print(load.statuses)  # noqa: T201  # pytest -s shows it
        return load.statuses[200] / load.seconds, set(load.statuses)

    alone, seen = await answered(8)
    in_storm, seen_in_storm = await answered(200)

    assert (seen, seen_in_storm) == ({200}, {200, 429})
    assert in_storm > alone / 4


async def test_a_signal_to_stop(start: Start, tmp_path: Path) -> None:
    """What was begun is answered, what was acknowledged is there after the next start; exit 0."""
    process = serve(start, tmp_path, store(tmp_path))
    async with calling(process.url) as load:
        process.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.exit_code)
    seen = load.tally.seen()
    again = serve(start, tmp_path, store(tmp_path))
    async with httpx.AsyncClient(base_url=again.url, timeout=PATIENCE_S) as client:
        load.client = client
        lost = await load.lost()

    assert code == 0
    assert seen <= {200, 503, NO_ANSWER}
    assert (lost, load.tally.wrong) == ({}, [])

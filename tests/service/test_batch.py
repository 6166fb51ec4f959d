"""POST /recommend/batch: several questions, each answered as if it had come alone."""

import asyncio

from tests.service.conftest import Running, Serve
from tests.service.fakes import FakeEngine


async def test_every_request_of_a_batch_is_answered_in_order(
    running: Running, engine: FakeEngine
) -> None:
    """One batch of the model, one result for each, the same as alone."""
    bodies = [{"history": [f"item-{n}"], "limit": 2} for n in range(3)]

    response = await running.client.post("/recommend/batch", json={"requests": bodies})

    results = response.json()["results"]
    assert response.status_code == 200
    assert [result["status"] for result in results] == [200, 200, 200]
    items = [[item["item_id"] for item in result["response"]["items"]] for result in results]
    assert items == [[f"item-{n + 1}", f"item-{n + 2}"] for n in range(3)]
    assert engine.batch_sizes == [3]


async def test_a_request_that_fails_fails_alone(serve: Serve) -> None:
    """Its result says what it would have been answered; the others have their items."""
    bodies = [{"history": ["item-1"]}, {"history": ["item-1"], "beam_width": 150}]

    async with serve(max_beam_width=100) as running:
        response = await running.client.post("/recommend/batch", json={"requests": bodies})

    good, bad = response.json()["results"]
    assert (good["status"], bad["status"]) == (200, 422)
    assert len(good["response"]["items"]) == 10
    assert (bad["problem"]["code"], "response" in bad) == ("invalid_request", False)
    assert bad["problem"]["errors"][0]["pointer"] == "/beam_width"


async def test_rows_beyond_the_queue_are_refused_one_by_one(
    serve: Serve, engine: FakeEngine
) -> None:
    """A batch counts as many rows as it has requests."""
    engine.gate.clear()
    async with serve(max_queue_rows=3) as running:
        bodies = [{"history": [f"item-{n}"]} for n in range(5)]
        batch = asyncio.create_task(
            running.client.post("/recommend/batch", json={"requests": bodies})
        )
        await engine.until_busy()
        engine.gate.set()
        statuses = [result["status"] for result in (await batch).json()["results"]]

    assert statuses == [200, 200, 200, 429, 429]


async def test_a_body_with_one_bad_request_is_refused(running: Running) -> None:
    """422 points into it; nothing was computed."""
    bodies = [{"history": ["item-1"]}, {"limit": 3}]

    response = await running.client.post("/recommend/batch", json={"requests": bodies})

    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/requests/1"

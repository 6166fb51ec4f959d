"""Callers of the service: their keys, and what they are told."""

import httpx

from tests.service.conftest import Running

KEYS = ("first-key-0123456789", "second-key-0123456789")


def told(response: httpx.Response) -> tuple[int, str]:
    """Status and code."""
    return response.status_code, response.json()["code"]


async def recommend(running: Running, **headers: str) -> httpx.Response:
    """The answer to somebody with these headers."""
    body = {"history": ["item-1"]}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await running.client.post("/recommend", json=body, headers=named)

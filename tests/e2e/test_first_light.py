"""Raw interactions in, POST /recommend out: every step as a process of its own."""

import subprocess
import sys
from pathlib import Path

import httpx

from tests.service.process import Process
from tests.training.recipes import recipe_file

ROOT = Path(__file__).parents[2]


def command(folder: Path, *words: str | Path) -> str:
    """Run a Python module in a folder and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_raw_interactions_become_recommendations_over_http(tmp_path: Path) -> None:
    """Prepare, quantize, train, evaluate, export, import histories, serve, ask."""
    store = f"sqlite:///{tmp_path / 'histories.sqlite3'}"
    command(tmp_path, "training", "run", recipe_file(tmp_path))
    histories = tmp_path / "runs/tiny/data/histories.parquet"
    imported = command(tmp_path, "service", "import-histories", histories, "--store", store)
    bundle_dir = str(tmp_path / "bundles" / "tiny")
    service = Process("-m", "service", "--bundle-dir", bundle_dir, "--port", "0",
                      STAMP_HISTORY_URL=store)  # fmt: skip
    service.until_ready()

    known = httpx.post(f"{service.url}/recommend", json={"user_id": "u7", "limit": 5}).json()
    inline = httpx.post(f"{service.url}/recommend", json={"history": ["i7", "i10"]}).json()
    cold = httpx.post(f"{service.url}/recommend", json={"user_id": "nobody", "limit": 3}).json()
    info = httpx.get(f"{service.url}/info").json()
    service.stop()

    catalog = {f"i{n}" for n in range(30)}
    seen = {f"i{(7 + 3 * n) % 30}" for n in range(8)}
    assert "40 users written" in imported
    assert known["source"] == inline["source"] == "model"
    assert {item["item_id"] for item in known["items"]} <= catalog - seen
    assert len(known["items"]) == 5
    assert {item["item_id"] for item in inline["items"]} <= catalog - {"i7", "i10"}
    assert cold["source"] == "popularity"
    assert len(cold["items"]) == 3
    assert known["model"]["version"] == info["model"]["version"]
    assert "recall@10" in info["model"]["metrics"]

"""`python -m service serve` around a FakeEngine, steered by its standard input.

The lines `hold` and `go` close and open the engine's gate. A batch that begins is a log line.
"""

import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from model.engine import Answer, Query
from service import server
from service.app import create_app
from service.logs import configure_logging
from service.settings import load_settings
from tests.service.fakes import FakeEngine, fake_bundle

log = structlog.get_logger()


class TalkingEngine(FakeEngine):
    """Says when a batch begins."""

    def recommend(self, queries: Sequence[Query]) -> list[Answer]:
        """Say so, then wait for the gate."""
        log.info("batch_begun", rows=len(queries))
        return super().recommend(queries)


def steer(engine: FakeEngine) -> None:
    """Follow standard input."""
    for line in sys.stdin:
        if line.strip() == "go":
            engine.gate.set()
        else:
            engine.gate.clear()
        log.info("steered", gate=line.strip())


def main() -> None:
    """Serve on a free port."""
    with TemporaryDirectory() as folder:
        serve(fake_bundle(Path(folder)))


def serve(bundles: Path) -> None:
    """Serve until a signal."""
    settings = load_settings(bundle_dir=bundles, history_url="memory://", port=0)
    configure_logging("info", "json")
    engine = TalkingEngine()
    threading.Thread(target=steer, args=[engine], daemon=True).start()
    build_app = partial(create_app, engine_loader=engine.load)
    server.leave(server.run(settings, None, build_app))


if __name__ == "__main__":
    main()

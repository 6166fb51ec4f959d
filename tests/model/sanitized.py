"""Compiled code under sanitizers: python -m tests.model.sanitized FOLDER, with libasan preloaded.

FOLDER holds libraries compiled with -fsanitize=address,undefined. Whatever reads or writes
beyond its memory ends the process.
"""

import sys
from pathlib import Path

from model.kernels.library import find
from tests import conftest  # noqa: F401 - its settings
from tests.model import test_kernels


def main(folder: Path) -> None:
    """Run the tests that compute, on the libraries in a folder."""
    test_kernels.KERNELS = find(folder)
    test_kernels.test_a_product_is_the_product()
    test_kernels.test_attention_is_attention()
    for name, config in test_kernels.CONFIGS.items():
        test_kernels.test_a_native_model_computes_what_the_model_computes(config)
        test_kernels.test_nobody_in_the_batch_changes_a_bit_of_an_answer(name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.write("clean\n")

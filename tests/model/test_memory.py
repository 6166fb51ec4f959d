"""Freed memory stays in the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from model.memory import keep_freed_memory

def pages_faulted(requests):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(requests):
        hidden = torch.ones(1 << 20)
        for _ in range(4):
            hidden = (hidden + hidden) * 0.5
        del hidden
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_freed_memory()
pages_faulted(10)
print(pages_faulted(10))
"""


def faults() -> int:
    """Pages faulted in by 10 requests of some 4 MB tensors, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_memory_that_is_kept_is_not_paged_in_again() -> None:
    """After a few requests, the next ones find their memory where the last ones left it."""
    assert faults() < 100

"""Threads of the CPU that torch computes with."""

import torch


def use_threads(num_threads: int) -> None:
    """Let torch compute with so many threads; call it in every thread that computes."""
    torch.set_num_threads(num_threads)

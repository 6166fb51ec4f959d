"""Decoding given codes level by level, or all at once: what a search does with one beam."""

import torch
from torch import Tensor

from model.backbone import Backbone, Prompt
from model.tail import Tail


def _begin(model: Backbone, prompt: Prompt, codes: Tensor) -> tuple[Tensor, Tail]:
    states, remembered = model.start(prompt)
    return states, Tail.begin(remembered, torch.zeros(len(codes), 1), room=0)


def step_by_step(model: Backbone, prompt: Prompt, codes: Tensor) -> Tensor:
    """(batch, levels, d_model) states that predict each level, a pass per level.

    Args:
        model: in eval mode.
        prompt: the histories.
        codes: (batch, levels); the last level's is not read.
    """
    states, tail = _begin(model, prompt, codes)
    found = [states]
    for level in range(1, codes.shape[1]):
        step, tail = tail.read(codes[:, level - 1 : level].long(), level)
        found.append(model.step(prompt, step))
    return torch.cat(found, dim=1)


def at_once(model: Backbone, prompt: Prompt, codes: Tensor) -> Tensor:
    """The same in one pass."""
    states, tail = _begin(model, prompt, codes)
    first, *further = torch.split(codes[:, :-1].long(), 1, dim=1)
    step = tail.read_ahead(first, torch.zeros_like(first), further, 1)
    return torch.cat((states, model.step(prompt, step)), dim=1)

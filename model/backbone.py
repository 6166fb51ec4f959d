"""What beam search, training and the engine ask of a model, whichever its architecture.

Shape words: batch, seq (padded history tokens), rows (codes that one pass reads), depth (codes that
a row sees), levels, blocks, heads (of keys and values), d_kv, d_model, numbers (2 * heads * d_kv:
the keys of one code, then its values).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.kernels.library import Kernels
from model.pruning import Cut
from model.semantic_id import NUM_SPECIAL_TOKENS, vocabulary_size

STEP_COST = 32
"""What one more pass costs where torch computes it, in rows that it could read instead."""


@dataclass(frozen=True)
class Prompt:
    """A batch of histories, read once and shared by every beam.

    Args:
        memory: per block of the part that decodes, (2, batch, heads, tokens, d_kv): keys and
            values. A decoder-only model has more tokens in the blocks before the cut.
        biases: per block, (batch, 1, 1, tokens): 0, or a number that hides padding.
        cut: which history tokens survived SAP; None if nothing was pruned.
        last: (batch, 1, d_model) states that predict level 0, and (batch, 1) position of the next
            token, of a decoder-only model; None for an encoder-decoder.
        begun: what `Backbone.start` returns, where an encoder-decoder has done it already.
    """

    memory: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    cut: Cut | None
    last: tuple[Tensor, Tensor] | None = None
    begun: tuple[Tensor, Tensor] | None = None

    def rows(self, own: slice) -> "Prompt":
        """The prompt of some of its rows; it shares their memory."""
        distinct = {id(bias): bias for bias in self.biases}
        biases = {key: bias[own] for key, bias in distinct.items()}
        cut, last, first = self.cut, self.last, self.begun
        return Prompt(
            tuple(states[:, own] for states in self.memory),
            tuple(biases[id(bias)] for bias in self.biases),
            None if cut is None else Cut(cut.indices[own], cut.mask[own]),
            None if last is None else (last[0][own], last[1][own]),
            None if first is None else (first[0][own], first[1][:, own]),
        )


@dataclass(frozen=True)
class Step:
    """What one pass of the decoder reads after the history, and where it remembers that.

    Args:
        level: the first level to predict, from 1; the first codes are of the level above.
        codes: per level, (batch, rows of it) int64: usually one level.
        seen: (batch, rows, depth) int64, places in `store` of what each row sees, oldest first,
            itself included; rows of earlier levels than the last have filler behind.
        store: (blocks, places, numbers), keys and values of all codes that were read.
        begin: the pass writes those of its rows to the places from here on.
    """

    level: int
    codes: tuple[Tensor, ...]
    seen: Tensor
    store: Tensor
    begin: int

    @property
    def counts(self) -> list[int]:
        """Rows of each level."""
        return [codes.shape[1] for codes in self.codes]


class Backbone(nn.Module, ABC):
    """Token embedding and per-level output weights; subclasses read and decode.

    Attributes:
        step_cost: what one more pass costs, in rows that it could read instead; -1 = less than
            finding out what else to read.
        kernels: compiled code for the search, on a CPU; None = torch does it.
    """

    first_tokens: Tensor
    step_cost: int = STEP_COST
    kernels: Kernels | None = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary_size(config.codebook_sizes), config.d_model)
        self.outputs = nn.ModuleList(
            _output(config.d_model, size)
            for size in (() if config.tie_outputs else config.codebook_sizes)
        )
        starts = [NUM_SPECIAL_TOKENS]
        for size in config.codebook_sizes:
            starts.append(starts[-1] + size)
        self.token_ranges = tuple(pairwise(starts))
        self.register_buffer("first_tokens", torch.tensor(starts[:-1]), persistent=False)

    def logits(self, states: Tensor, level: int) -> Tensor:
        """(..., d_model) states at a level -> (..., codebook size) scores of its codes."""
        if not self.config.tie_outputs:
            scores: Tensor = self.outputs[level](states)
            return scores
        first, end = self.token_ranges[level]
        tied: Tensor = states @ self.embedding.weight[first:end].T
        return tied * self.tied_scale

    def tokens(self, step: Step) -> Tensor:
        """(batch, rows) the tokens of a step's codes."""
        starts = [first for first, _ in self.token_ranges[step.level - 1 :]]
        tokens = [codes + first for codes, first in zip(step.codes, starts, strict=False)]
        return tokens[0] if len(tokens) == 1 else torch.cat(tokens, dim=1)

    @property
    def tied_scale(self) -> float:
        """Scale of scores by tied weights."""
        return 1.0

    @abstractmethod
    def prompt(self, tokens: Tensor, mask: Tensor, ratio: float | None = None) -> Prompt:
        """Read histories once.

        Args:
            tokens: (batch, seq) int64.
            mask: (batch, seq) bool, True = real token, padding on the right.
            ratio: retention ratio; None = the one the model was made for, 1 = no pruning.
        """

    @abstractmethod
    def decode(self, prompt: Prompt, codes: Tensor) -> Tensor:
        """Teacher-forced states.

        Args:
            prompt: the histories.
            codes: (batch, levels) target codes; the last level's is not read.

        Returns:
            (batch, levels, d_model), normed; state m predicts the code of level m.
        """

    @abstractmethod
    def start(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """States that predict level 0.

        Returns:
            (batch, 1, d_model) states; and (blocks, batch, numbers) to remember of what was read,
            or (blocks, 0, numbers) where the prompt remembers for it.
        """

    @abstractmethod
    def step(self, prompt: Prompt, step: Step) -> Tensor:
        """(batch, rows, d_model) states that predict the level below each code; fills the store."""


def with_first_step(model: Backbone, prompt: Prompt) -> Prompt:
    """The prompt with the first step of decoding, which depends on nothing else either."""
    states, remembered = model.start(prompt)
    return replace(prompt, begun=(states, remembered)) if remembered.shape[1] else prompt


def _output(d_model: int, size: int) -> nn.Linear:
    output = nn.Linear(d_model, size, bias=False)
    nn.init.normal_(output.weight, std=d_model**-0.5)
    return output

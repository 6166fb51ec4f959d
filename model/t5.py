"""T5 over semantic IDs: one token embedding, an encoder that prunes, a decoder, output weights.

Shape words: batch, seq (padded history tokens), kept, beams, levels, d_model.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.decoder import Decoder
from model.encoder import Encoded, Encoder
from model.layers import mask_bias
from model.pruning import Cut
from model.semantic_id import BOS, NUM_SPECIAL_TOKENS, vocabulary_size


@dataclass(frozen=True)
class Prompt:
    """A batch of histories, read once and ready for every beam.

    Args:
        memory: per decoder block, (2, batch, heads, kept, d_kv).
        memory_bias: (batch, 1, 1, kept).
        cut: which history tokens survived; None if nothing was pruned.
    """

    memory: tuple[Tensor, ...]
    memory_bias: Tensor
    cut: Cut | None


class T5(nn.Module):
    """History tokens in, log-probabilities of the next item's codes out, level by level."""

    first_tokens: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary_size(config.codebook_sizes), config.d_model)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.outputs = nn.ModuleList(
            _output(config.d_model, size)
            for size in (() if config.tie_outputs else config.codebook_sizes)
        )
        starts = [NUM_SPECIAL_TOKENS]
        for size in config.codebook_sizes:
            starts.append(starts[-1] + size)
        self.token_ranges = tuple(pairwise(starts))
        self.register_buffer("first_tokens", torch.tensor(starts[:-1]), persistent=False)

    def encode(self, tokens: Tensor, mask: Tensor, ratio: float | None = None) -> Encoded:
        """Encode (batch, seq) tokens; ratio None = the one the model was made for."""
        ratio = self.config.default_retention_ratio if ratio is None else ratio
        hidden: Tensor = self.embedding(tokens)
        encoded: Encoded = self.encoder(hidden, mask, self.config.pruning, ratio)
        return encoded

    def decode(self, encoded: Encoded, codes: Tensor) -> Tensor:
        """Teacher-forced decoder states.

        Args:
            encoded: the histories.
            codes: (batch, levels) target codes; the last level's is not read.

        Returns:
            (batch, levels, d_model); state m predicts the code of level m.
        """
        tokens = codes + self.first_tokens
        begin = torch.full_like(tokens[:, :1], BOS)
        states: Tensor = self.decoder(
            self.embedding(torch.cat((begin, tokens[:, :-1]), dim=1)), encoded
        )
        return states

    def logits(self, states: Tensor, level: int) -> Tensor:
        """(..., d_model) states at a level -> (..., codebook size) scores of its codes."""
        if not self.config.tie_outputs:
            scores: Tensor = self.outputs[level](states)
            return scores
        first, end = self.token_ranges[level]
        tied: Tensor = states @ self.embedding.weight[first:end].T * self.config.d_model**-0.5
        return tied

    def prompt(self, tokens: Tensor, mask: Tensor, ratio: float | None = None) -> Prompt:
        """Read (batch, seq) history tokens once, for `start` and `step`."""
        encoded = self.encode(tokens, mask, ratio)
        memory = self.decoder.memory(encoded.hidden)
        return Prompt(memory, mask_bias(encoded.mask, encoded.hidden.dtype), encoded.cut)

    def start(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """(batch, 1, d_model) states that predict level 0, and what to remember of them."""
        batch = prompt.memory_bias.shape[0]
        begin = torch.full((batch, 1), BOS, device=prompt.memory_bias.device)
        return self.decoder.step(self.embedding(begin), None, prompt.memory, prompt.memory_bias)

    def step(
        self, prompt: Prompt, past: Tensor, codes: Tensor, level: int
    ) -> tuple[Tensor, Tensor]:
        """States that predict `level`, after the beams chose codes of the level above.

        Args:
            prompt: the histories.
            past: (blocks, 2, batch, beams, tail, heads, d_kv), gathered for these beams.
            codes: (batch, beams) int64, each beam's code of level - 1.
            level: the level to predict, from 1.

        Returns:
            (batch, beams, d_model) states, and (blocks, 2, batch, beams, heads, d_kv) to remember.
        """
        hidden = self.embedding(codes + self.token_ranges[level - 1][0])
        return self.decoder.step(hidden, past, prompt.memory, prompt.memory_bias)


def _output(d_model: int, size: int) -> nn.Linear:
    output = nn.Linear(d_model, size, bias=False)
    nn.init.normal_(output.weight, std=d_model**-0.5)
    return output

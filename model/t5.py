"""T5 over semantic IDs: an encoder that prunes once, and a decoder.

Shape words: batch, seq (padded history tokens), kept, rows, levels, d_model.
"""

import torch
from torch import Tensor, nn

from model.backbone import Backbone, Prompt, Step
from model.config import T5Config
from model.decoder import Decoder
from model.encoder import Encoded, Encoder
from model.layers import mask_bias
from model.semantic_id import BOS


class T5(Backbone):
    """Encoder and decoder share one token embedding; see Backbone for the methods."""

    config: T5Config

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.recency = (
            nn.Embedding(config.max_history_items, config.d_model) if config.recency else None
        )

    @property
    def tied_scale(self) -> float:
        """T5 scales scores by tied weights."""
        return float(self.config.d_model**-0.5)

    def encode(self, tokens: Tensor, mask: Tensor, ratio: float | None = None) -> Encoded:
        """Encode (batch, seq) tokens; ratio None = the one the model was made for."""
        ratio = self.config.default_retention_ratio if ratio is None else ratio
        hidden: Tensor = self.embedding(tokens)
        if self.recency is not None:
            hidden = hidden + self.recency(self._items_after(mask))
        encoded: Encoded = self.encoder(hidden, mask, self.config.pruning, ratio)
        return encoded

    def _items_after(self, mask: Tensor) -> Tensor:
        """(batch, seq) int64: how many items came after each token's; 0 for padding."""
        position = torch.arange(mask.shape[1], device=mask.device)
        newest = mask.sum(dim=1, keepdim=True) - 1
        return ((newest - position) // self.config.tokens_per_item).clamp(min=0)

    def prompt(self, tokens: Tensor, mask: Tensor, ratio: float | None = None) -> Prompt:
        """See Backbone; the memory is what cross-attention reads."""
        encoded = self.encode(tokens, mask, ratio)
        memory = self.decoder.memory(encoded.hidden)
        bias = mask_bias(encoded.mask, encoded.hidden.dtype)
        return Prompt(memory, (bias,) * len(memory), encoded.cut)

    def decode(self, prompt: Prompt, codes: Tensor) -> Tensor:
        """See Backbone."""
        tokens = codes + self.first_tokens
        begin = torch.full_like(tokens[:, :1], BOS)
        hidden = self.embedding(torch.cat((begin, tokens[:, :-1]), dim=1))
        states: Tensor = self.decoder(hidden, prompt.memory, prompt.biases[0])
        return states

    def start(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """See Backbone; the decoder reads BOS."""
        if prompt.begun is not None:
            return prompt.begun
        begin = self.embedding.weight[BOS].expand(len(prompt.biases[0]), 1, -1)
        return self.decoder.start(begin, prompt.memory, prompt.biases[0])

    def step(self, prompt: Prompt, step: Step) -> Tensor:
        """See Backbone."""
        hidden = self.embedding(self.tokens(step))
        states: Tensor = self.decoder.step(hidden, step, prompt.memory, prompt.biases[0])
        return states

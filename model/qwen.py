"""A decoder-only model over semantic IDs: the history is the prompt, the next item the answer.

Blocks up to the cut read all history tokens, later blocks the kept ones, at their old positions;
so keys and values of blocks have different lengths, and stay valid while decoding.
Shape words: batch, seq (padded history tokens), kept, rows, depth, levels, items, d_model.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.backbone import Backbone, Prompt, Step
from model.config import PruningConfig, QwenConfig
from model.layers import mask_bias
from model.pruning import Cut, choose, rows_at_once, token_importance
from model.qwen_layers import GroupedAttention, SwiGlu, Turn, initialize, rotary


class QwenBlock(nn.Module):
    """Attention and SwiGLU, each on a normed copy, added to the residual stream."""

    def __init__(self, config: QwenConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention_norm = nn.RMSNorm(config.d_model, config.norm_epsilon)
        self.attention = GroupedAttention(config)
        self.ff_norm = nn.RMSNorm(config.d_model, config.norm_epsilon)
        self.ff = SwiGlu(config)

    def project(self, hidden: Tensor, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the normed states."""
        return self.attention.project(self.attention_norm(hidden), turn)

    def finish(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """Add attention's result and the feed-forward part to the residual stream."""
        hidden = hidden + F.dropout(mixed, self.dropout, self.training)
        return hidden + F.dropout(self.ff(self.ff_norm(hidden)), self.dropout, self.training)


@dataclass(frozen=True)
class Stream:
    """What the blocks pass on while they read a history.

    hidden: (batch, tokens, d_model); positions: (batch, tokens) in the uncut history;
    mask: (batch, tokens) bool, True = real token.
    """

    hidden: Tensor
    positions: Tensor
    mask: Tensor

    def biases(self) -> tuple[Tensor, Tensor]:
        """(batch, 1, 1, tokens) hides padding; (batch, 1, tokens, tokens) later tokens as well."""
        tokens = self.hidden.shape[1]
        later = torch.ones(tokens, tokens, dtype=torch.bool, device=self.mask.device).triu(1)
        hidden_bias = torch.finfo(self.hidden.dtype).min / 2
        padding = mask_bias(self.mask, self.hidden.dtype)
        return padding, padding.expand(-1, -1, tokens, -1).masked_fill(later, hidden_bias)

    def cut(self, cut: Cut) -> "Stream":
        """The kept tokens at their old positions."""
        positions = self.positions.gather(1, cut.indices)
        return Stream(cut.gather(self.hidden), positions, cut.mask)


class Qwen(Backbone):
    """A Qwen2.5- or Qwen3-like model; see Backbone for the methods."""

    config: QwenConfig
    prefix: Tensor

    def __init__(self, config: QwenConfig) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList(QwenBlock(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.d_model, config.norm_epsilon)
        self.text_embedding = _text_embedding(config)
        prefix = torch.tensor(config.prefix_tokens, dtype=torch.int64)
        self.register_buffer("prefix", prefix, persistent=False)
        initialize(self, config.num_layers)

    def prompt(self, tokens: Tensor, mask: Tensor, ratio: float | None = None) -> Prompt:
        """See Backbone; memory is shorter in the blocks after the cut."""
        ratio = self.config.default_retention_ratio if ratio is None else ratio
        stream, memory, biases, cut = self._read(tokens, mask, ratio)
        length = len(self.prefix) + mask.sum(dim=1, keepdim=True)
        newest = stream.mask.sum(dim=1, keepdim=True) - 1
        last = stream.hidden.gather(1, newest[..., None].expand(-1, -1, self.config.d_model))
        return Prompt(tuple(memory), tuple(biases), cut, (self.norm(last), length))

    def dense_states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """States for the next-item loss at every position of the history, without pruning.

        Args:
            tokens: (batch, items * tokens per item).
            mask: same shape, True = real token.

        Returns:
            (batch, items - 1, levels, d_model): state (i, m) predicts level m of item i + 1.
        """
        stream, *_ = self._read(tokens, mask, ratio=1.0)
        per_item = self.config.tokens_per_item
        states: Tensor = self.norm(stream.hidden)[:, len(self.prefix) + per_item - 1 : -1]
        batch, _, width = states.shape
        return states.reshape(batch, -1, per_item, width)[:, :, : self.config.num_levels]

    def decode(self, prompt: Prompt, codes: Tensor) -> Tensor:
        """See Backbone; the codes but the last are read in one pass over the prompt's memory."""
        assert prompt.last is not None
        first, length = prompt.last
        tokens = (codes + self.first_tokens)[:, :-1]
        answer = tokens.shape[1]
        if answer == 0:
            return first
        hidden: Tensor = self.embedding(tokens)
        turn = rotary(length + torch.arange(answer, device=tokens.device), self.config)
        later = torch.ones(answer, answer, dtype=torch.bool, device=tokens.device).triu(1)
        own_bias = torch.zeros(answer, answer, dtype=hidden.dtype, device=tokens.device)
        own_bias = own_bias.masked_fill(later, torch.finfo(hidden.dtype).min / 2)
        for block, memory, bias in zip(self._blocks(), prompt.memory, prompt.biases, strict=True):
            query, key, value = block.project(hidden, turn)
            keys = torch.cat((memory[0], key.transpose(1, 2)), dim=2)
            values = torch.cat((memory[1], value.transpose(1, 2)), dim=2)
            own = own_bias.expand(len(tokens), 1, -1, -1)
            both = torch.cat((bias.expand(-1, -1, answer, -1), own), dim=-1)
            hidden = block.finish(hidden, block.attention(query, keys, values, both))
        return torch.cat((first, self.norm(hidden)), dim=1)

    def start(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """See Backbone; the prompt's last token predicts level 0 and is already remembered."""
        assert prompt.last is not None
        numbers = 2 * self.config.num_kv_heads * self.config.d_kv
        return prompt.last[0], prompt.last[0].new_empty(self.config.num_layers, 0, numbers)

    def step(self, prompt: Prompt, step: Step) -> Tensor:
        """See Backbone."""
        assert prompt.last is not None
        hidden: Tensor = self.embedding(self.tokens(step))
        batch, rows, _ = hidden.shape
        store = step.store[:, : step.begin + batch * rows]
        turn = rotary(prompt.last[1] + places_of(step, hidden.device), self.config)
        seen, hides = step.seen.flatten(), hides_of(step, hidden.dtype)
        for index, block in enumerate(self._blocks()):
            query, key, value = block.project(hidden, turn)
            now = torch.stack((key, value), dim=2)
            store[index, step.begin :] = now.view(batch * rows, -1)
            codes = store[index].index_select(0, seen).view(batch, rows, -1, *now.shape[2:])
            memory, bias = prompt.memory[index], prompt.biases[index]
            mixed = block.attention.over_tail(query, memory, bias, codes, hides)
            hidden = block.finish(hidden, mixed)
        normed: Tensor = self.norm(hidden)
        return normed

    def _read(
        self, tokens: Tensor, mask: Tensor, ratio: float
    ) -> tuple[Stream, list[Tensor], list[Tensor], Cut | None]:
        """Run all blocks over the history; pruning shortens the stream after one of them."""
        stream = self._begin(tokens, mask)
        positions, prefix = stream.positions, len(self.prefix)
        turn, (padding, bias), cut = rotary(positions[:1], self.config), stream.biases(), None
        memory, biases = [], []
        pruning = self.config.pruning
        for index, block in enumerate(self._blocks()):
            query, key, value = block.project(stream.hidden, turn)
            key, value = key.transpose(1, 2), value.transpose(1, 2)
            memory.append(torch.stack((key, value)))
            biases.append(padding)
            mixed = block.attention(query, key, value, bias)
            stream = replace(stream, hidden=block.finish(stream.hidden, mixed))
            if pruning is not None and ratio < 1 and index == pruning.layer:
                importance = importance_after(
                    block.attention, (query, key, bias), stream.hidden, stream.mask, pruning
                )[:, prefix:]
                cut = choose(importance, mask, self.config.tokens_per_item, pruning, ratio)
                stream = stream.cut(behind(prefix, cut))
                if pruning.positions == "reset":
                    stream = replace(stream, positions=positions[:, : stream.mask.shape[1]])
                turn, (padding, bias) = rotary(stream.positions, self.config), stream.biases()
        return stream, memory, biases, cut

    def _begin(self, tokens: Tensor, mask: Tensor) -> Stream:
        """The prefix and the history behind it, embedded."""
        hidden = self.embedding(tokens)
        if self.text_embedding is not None:
            prefix = self.text_embedding(self.prefix).expand(len(tokens), -1, -1)
            hidden = torch.cat((prefix, hidden), dim=1)
            mask = F.pad(mask, (len(self.prefix), 0), value=True)
        positions = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
        return Stream(hidden, positions, mask)

    def _blocks(self) -> list[QwenBlock]:
        return [block for block in self.blocks if isinstance(block, QwenBlock)]


@torch.no_grad()
def importance_after(
    attention: GroupedAttention,
    inputs: tuple[Tensor, Tensor, Tensor],
    hidden: Tensor,
    mask: Tensor,
    pruning: PruningConfig,
) -> Tensor:
    """(batch, seq) importance after the block before the cut.

    The weights are computed beside the fused attention, so that training need not keep them.

    Args:
        attention: the block's.
        inputs: its queries, keys and bias.
        hidden: (batch, seq, d_model), output of the block.
        mask: (batch, seq) bool, True = real token.
        pruning: what ranks the tokens.
    """
    rows = rows_at_once(hidden.device, inputs[0].shape[2] * hidden.shape[1] ** 2)
    parts = [
        token_importance(states, attention.weights(*qkb), row_mask, pruning)
        for states, row_mask, *qkb in zip(
            *(torch.split(each, rows) for each in (hidden, mask, *inputs)), strict=True
        )
    ]
    return torch.cat(parts)


def places_of(step: Step, device: torch.device) -> Tensor:
    """(rows,) int64: how many codes stand before each row's."""
    each = [
        torch.full((rows,), step.level - 1 + age, device=device)
        for age, rows in enumerate(step.counts)
    ]
    return torch.cat(each)


def hides_of(step: Step, dtype: torch.dtype) -> Tensor | None:
    """(rows, depth) 0, or a number that hides the filler behind a row's own code; None = none."""
    if len(step.codes) == 1:
        return None
    depth, hidden = step.seen.shape[2], torch.finfo(dtype).min / 2
    each = [
        F.pad(
            torch.zeros(rows, step.level + age, dtype=dtype, device=step.seen.device),
            (0, depth - step.level - age),
            value=hidden,
        )
        for age, rows in enumerate(step.counts)
    ]
    return torch.cat(each)


def _text_embedding(config: QwenConfig) -> nn.Embedding | None:
    """A language model's text embeddings. Frozen: only the prefix is ever looked up."""
    if not config.text_vocabulary:
        return None
    embedding = nn.Embedding(config.text_vocabulary, config.d_model)
    embedding.weight.requires_grad_(False)
    return embedding


def behind(num_prefix: int, cut: Cut) -> Cut:
    """The same cut of rows that begin with a prefix, all of which stays."""
    prefix = torch.arange(num_prefix, device=cut.indices.device).expand(len(cut.indices), -1)
    indices = torch.cat((prefix, cut.indices + num_prefix), dim=1)
    return Cut(indices, F.pad(cut.mask, (num_prefix, 0), value=True))

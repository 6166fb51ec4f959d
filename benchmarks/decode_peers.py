"""The searches that ours is compared with: transformers' `generate`, and cornac's TIGER.

Both are optional. Each reads our weights, and finds what our search finds, in the same order.
Shape words: rows (of a batch), beams, levels, seq.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.decode_workload import Batch, Case, Ranking
from model.semantic_id import BOS, NUM_SPECIAL_TOKENS, Ints, SidTable
from model.t5 import T5

Prefix = tuple[int, ...]
ELSEWHERE = -1000.0  # times a level's mark in a state: what other levels' codes score

INSTALL = {"transformers": 'pip install "transformers>=5.23"', "cornac": 'pip install "cornac>=3"'}
"""What brings each peer."""


class PeerMissingError(Exception):
    """A peer is not installed; says what would bring it."""


@dataclass(frozen=True)
class Transformers:
    """A T5ForConditionalGeneration that may only say tokens of `allowed`; see Searcher."""

    model: nn.Module
    allowed: Callable[[int, Tensor], list[int]]
    first_tokens: Tensor

    @classmethod
    def of(cls, case: Case) -> "Transformers":
        """With our weights.

        Its softmax runs over all levels' tokens together, ours over the codes of one level. So its
        output weights of a level's tokens read the marks of the other levels, and say no.

        Raises:
            PeerMissingError: transformers is not installed.
        """
        module = _module("benchmarks.transformers_t5", "transformers")
        model = module.reference_t5(case.model).requires_grad_(False)
        levels = len(case.model.token_ranges)
        model.lm_head.weight[:, :levels] = ELSEWHERE
        for level, (first, end) in enumerate(case.model.token_ranges):
            model.lm_head.weight[first:end, level] = 0
        return cls(model, prefix_function(case.table), case.model.first_tokens)

    @torch.inference_mode()
    def search(self, batch: Batch, beam_width: int) -> object:
        """See Searcher."""
        return self._generate(batch, beam_width, scores=False)

    def ranking(self, batch: Batch, beam_width: int) -> Ranking:
        """See Searcher; keeps every step's scores, which the search that is timed does not."""
        with torch.inference_mode():
            found = self._generate(batch, beam_width, scores=True)
        scores = found.sequences_scores.view(len(batch.tokens), beam_width)
        return Ranking(self._codes(found, beam_width), scores)

    @torch.inference_mode()
    def codes(self, batch: Batch, beam_width: int) -> Tensor:
        """(rows, beams, levels): the semantic IDs of `search`, best first."""
        return self._codes(self._generate(batch, beam_width, scores=False), beam_width)

    def _codes(self, found: Any, beam_width: int) -> Tensor:
        tokens = found.sequences.view(-1, beam_width, 1 + len(self.first_tokens))[:, :, 1:]
        return torch.as_tensor(tokens - self.first_tokens)

    def _generate(self, batch: Batch, beam_width: int, *, scores: bool) -> Any:
        generate: Any = self.model.generate
        return generate(
            input_ids=batch.tokens,
            attention_mask=batch.mask.long(),
            prefix_allowed_tokens_fn=self.allowed,
            num_beams=beam_width,
            num_return_sequences=beam_width,
            max_new_tokens=len(self.first_tokens),
            length_penalty=0.0,  # the plain sum of log-probabilities
            do_sample=False,
            use_cache=True,
            eos_token_id=None,
            return_dict_in_generate=True,
            output_scores=scores,
        )


@dataclass(frozen=True)
class Cornac:
    """Cornac's TIGER, one history at a time; see Searcher."""

    model: Any
    children: Sequence[Mapping[Prefix, Ints]]
    shift: int

    @classmethod
    def of(cls, case: Case) -> "Cornac":
        """With our weights.

        Raises:
            PeerMissingError: cornac is not installed.
        """
        module = _module("cornac.models.tiger.tiger", "cornac")
        transformers_t5 = _module("benchmarks.transformers_t5", "transformers")
        config = case.model.config
        model = module.TIGERSeq2Seq(
            config.codebook_sizes,
            d_model=config.d_model,
            d_ff=config.d_ff,
            num_heads=config.num_heads,
            d_kv=config.d_kv,
            num_enc_layers=config.num_layers,
            num_dec_layers=config.num_decoder_layers,
            dropout=0.0,
        ).eval()
        stacks = [transformers_t5.stack_weights(case.model, name) for name in STACKS]
        weights = _cornac_tables(case.model) | stacks[0] | stacks[1]
        unused = {name: model.state_dict()[name] for name in ("offsets", *UNUSED)}
        model.load_state_dict(unused | weights)
        return cls(model, _cornac_children(case.table), NUM_SPECIAL_TOKENS - 1)

    def search(self, batch: Batch, beam_width: int) -> tuple[list[Prefix], Any]:
        """See Searcher; a batch of one row."""
        tokens = batch.tokens - self.shift  # it has one special token, padding
        found: tuple[list[Prefix], Any] = self.model.generate_beam(
            tokens, batch.mask.float(), beam_width, self.children
        )
        return found

    def ranking(self, batch: Batch, beam_width: int) -> Ranking:
        """See Searcher."""
        sids, scores = self.search(batch, beam_width)
        return Ranking(torch.tensor([sids]), torch.as_tensor(scores)[None])


STACKS = ("encoder", "decoder")
UNUSED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


def allowed_tokens(table: SidTable) -> dict[Prefix, list[int]]:
    """The tokens that may follow each prefix of tokens: what a user of transformers would build."""
    allowed: dict[Prefix, dict[int, None]] = {}
    firsts = [table.first_token(level) for level in range(table.num_levels)]
    for tokens in (table.codes + np.array(firsts)).tolist():
        for level, token in enumerate(tokens):
            allowed.setdefault(tuple(tokens[:level]), {})[token] = None
    return {prefix: list(tokens) for prefix, tokens in allowed.items()}


def prefix_function(table: SidTable) -> Callable[[int, Tensor], list[int]]:
    """`prefix_allowed_tokens_fn` over a dictionary made beforehand: one look-up per beam."""
    allowed = allowed_tokens(table)

    def function(_: int, said: Tensor) -> list[int]:
        return allowed[tuple(said.tolist()[1:])]  # without the token that begins

    return function


def _cornac_tables(ours: T5) -> dict[str, Tensor]:
    embedding = ours.embedding.weight
    codes = embedding[NUM_SPECIAL_TOKENS:]
    heads = {
        f"heads.{level}.weight": output.get_parameter("weight")
        for level, output in enumerate(ours.outputs)
    }
    padding = torch.zeros_like(codes[:1])
    return {
        "token_emb.weight": torch.cat((padding, codes)),
        "bos": embedding[BOS].view(1, 1, -1),
    } | heads


def _cornac_children(table: SidTable) -> list[dict[Prefix, Ints]]:
    """Per level, the codes that may follow each prefix of codes, as cornac lays them out."""
    found = []
    for level in range(table.num_levels):
        children: dict[Prefix, list[int]] = {}
        for *prefix, code in np.unique(table.codes[:, : level + 1], axis=0).tolist():
            children.setdefault(tuple(prefix), []).append(code)
        found.append({prefix: np.array(codes) for prefix, codes in children.items()})
    return found


def _module(name: str, peer: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise PeerMissingError(INSTALL[peer]) from error

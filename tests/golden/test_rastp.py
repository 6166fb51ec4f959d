"""The `rastp` preset keeps the tokens that RASTP (arXiv:2511.16943) keeps.

The algorithm is written out here from its published description, on transformers' T5: after the
encoder block of index 1, importance is attention received, summed over heads and over all queries
(padded ones too), times the L1 norm of the block's output; a third of the padded length stays, in
order; the blocks after it see no position bias.
"""

import pytest
import torch
import transformers
from torch import Tensor

from benchmarks.transformers_t5 import reference_t5
from model.config import PruningConfig, T5Config
from model.semantic_id import SEPARATOR
from tests.factories import history_batch, random_t5, random_table, tiny_config

LENGTHS = [12, 12, 9, 4, 3, 1]


def rastp_config() -> T5Config:
    """Four encoder blocks and a separator after every item, as in RASTP's experiments."""
    return tiny_config(num_layers=4, separator=True, pruning=PruningConfig.rastp().model_dump())


def batch() -> tuple[Tensor, Tensor]:
    """Histories of different lengths, padded on the right."""
    tokens, mask = random_table().pack(history_batch(LENGTHS), separator=True, num_items=12)
    assert (tokens == SEPARATOR).sum() == sum(LENGTHS)
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def rastp(
    reference: transformers.T5ForConditionalGeneration, tokens: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """The published algorithm.

    Returns:
        (batch, k) kept indices and (batch, k, d_model) encoder states of the kept tokens.
    """
    encoder = reference.encoder
    encoder.set_attn_implementation("eager")
    seen = encoder(
        input_ids=tokens,
        attention_mask=mask.long(),
        output_attentions=True,
        output_hidden_states=True,
    )
    hidden, attention = seen.hidden_states[2], seen.attentions[1]
    importance = attention.sum(dim=1).sum(dim=1) * hidden.abs().sum(dim=-1)
    importance = importance.masked_fill(~mask, -torch.inf)
    kept = importance.topk(max(1, int(tokens.shape[1] / 3)), dim=1).indices.sort(dim=1).values
    hidden = hidden.gather(1, kept[..., None].expand(-1, -1, hidden.shape[-1]))
    hides = torch.zeros(kept.shape).masked_fill(~mask.gather(1, kept), torch.finfo().min)
    no_positions = hides[:, None, None, :].expand(-1, encoder.config.num_heads, kept.shape[1], -1)
    for block in encoder.block[2:]:
        found = block(hidden, position_bias=no_positions)
        hidden = found[0] if isinstance(found, tuple) else found
    return kept, encoder.final_layer_norm(hidden)


@pytest.mark.parametrize("seed", range(8))
@torch.inference_mode()
def test_the_preset_keeps_what_rastp_keeps(seed: int) -> None:
    """The same indices for every row, and the same encoder states afterwards."""
    ours = random_t5(rastp_config(), seed)
    tokens, mask = batch()

    found = ours.encode(tokens, mask)

    kept, states = rastp(reference_t5(ours), tokens, mask)
    assert found.cut is not None
    for row in range(len(LENGTHS)):
        real = mask[row, kept[row]]
        assert found.cut.indices[row][found.cut.mask[row]].tolist() == kept[row][real].tolist()
        torch.testing.assert_close(
            found.hidden[row][found.mask[row]], states[row][real], rtol=1e-4, atol=1e-5
        )


@torch.inference_mode()
def test_rastp_depends_on_padding_and_sap_does_not() -> None:
    """The reason for SAP's defaults: a user's kept tokens are their own business."""
    tokens, mask = batch()
    alone = slice(2, 3), slice(0, 9 * 4)
    kept = {}
    for name, pruning in (("rastp", PruningConfig.rastp()), ("sap", PruningConfig())):
        ours = random_t5(tiny_config(num_layers=4, separator=True, pruning=pruning.model_dump()))
        cuts = [
            ours.encode(tokens, mask).cut,
            ours.encode(tokens[alone], mask[alone]).cut,
        ]
        rows = [(2, cuts[0]), (0, cuts[1])]
        kept[name] = [cut.indices[row][cut.mask[row]].tolist() for row, cut in rows if cut]

    assert kept["sap"][0] == kept["sap"][1]
    assert kept["rastp"][0] != kept["rastp"][1]

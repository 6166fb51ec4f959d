"""Our T5 computes what transformers' T5 computes, given the same weights."""

import pytest
import torch
from torch import Tensor

from benchmarks.transformers_t5 import reference_t5
from model.config import T5Config
from model.semantic_id import BOS
from model.speed import accelerate
from tests.decoding import at_once, step_by_step
from tests.factories import history_batch, random_t5, random_table, tiny_config


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Equal to float32 rounding."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def batch(config: T5Config) -> tuple[Tensor, Tensor, Tensor]:
    """Padded history tokens, their mask, and target codes."""
    table = random_table()
    tokens, mask = table.pack(
        history_batch([12, 7, 1]), separator=config.separator, num_items=config.max_history_items
    )
    return torch.from_numpy(tokens), torch.from_numpy(mask), torch.from_numpy(table.codes[:3])


VARIANTS = [
    {},
    {"feed_forward": "gated"},
    {"tie_outputs": True},
    {"separator": True, "max_history_items": 60, "relative_attention_max_distance": 40},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_encoder_computes_what_transformers_t5_computes(changes: dict[str, object]) -> None:
    """With the same weights, the states of real tokens agree to float32 rounding."""
    ours = random_t5(tiny_config(**changes))
    tokens, mask, _ = batch(ours.config)

    found = ours.encode(tokens, mask, ratio=1.0).hidden

    expected = reference_t5(ours).encoder(input_ids=tokens, attention_mask=mask.long())
    assert_close(found[mask], expected.last_hidden_state[mask])


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_decoder_computes_what_transformers_t5_computes(changes: dict[str, object]) -> None:
    """With the same weights, the scores of every level's codes agree to float32 rounding."""
    ours = random_t5(tiny_config(**changes))
    tokens, mask, codes = batch(ours.config)
    inputs = torch.cat((torch.full((3, 1), BOS), (codes + ours.first_tokens)[:, :-1]), dim=1)

    states = ours.decode(ours.prompt(tokens, mask, ratio=1.0), codes.long())
    found = [ours.logits(states[:, level], level) for level in range(3)]

    scores = reference_t5(ours)(
        input_ids=tokens, attention_mask=mask.long(), decoder_input_ids=inputs
    ).logits
    for level, (first, end) in enumerate(ours.token_ranges):
        assert_close(found[level], scores[:, level, first:end])


def test_decoding_step_by_step_computes_what_teacher_forcing_computes() -> None:
    """Remembered keys and values give the states that one pass over all levels gives."""
    ours = random_t5()
    tokens, mask, codes = batch(ours.config)
    prompt = ours.prompt(tokens, mask)

    found = step_by_step(ours, prompt, codes)

    expected = ours.decode(ours.prompt(tokens, mask), codes.long())
    assert_close(found, expected)


@torch.inference_mode()
def test_codes_fed_at_once_compute_what_steps_compute() -> None:
    """All codes of an answer in one pass: the same states, and the same to remember."""
    ours = random_t5()
    tokens, mask, codes = batch(ours.config)
    prompt = ours.prompt(tokens, mask)

    found = at_once(ours, prompt, codes)

    expected = ours.decode(ours.prompt(tokens, mask), codes.long())
    assert_close(found, expected)


@torch.inference_mode()
def test_as_it_serves_it_computes_what_transformers_t5_computes() -> None:
    """Packed weights, folded norms and remembered codes: the same scores to 1e-5."""
    plain = random_t5()
    tokens, mask, codes = batch(plain.config)
    inputs = torch.cat((torch.full_like(codes[:, :1], BOS), codes + plain.first_tokens), dim=1)
    scores = reference_t5(plain)(
        input_ids=tokens, attention_mask=mask.long(), decoder_input_ids=inputs[:, :-1].long()
    ).logits

    ours = accelerate(plain, "float32")
    states = step_by_step(ours, ours.prompt(tokens, mask, ratio=1.0), codes)

    for level, (first, end) in enumerate(ours.token_ranges):
        assert_close(ours.logits(states[:, level], level), scores[:, level, first:end])

"""Item vectors to semantic IDs by an RQ-VAE (Lee et al., CVPR 2022; TIGER, NeurIPS 2023).

A small network maps a vector to its latent, the levels quantize what is left of the latent one
after the other, and a second network makes the vector again of the sum of the codes. Both and the
codebooks are learned together. Codebooks start from k-means on the first latents, and a code that
no item used for a whole pass over the items moves to what is left of a random one.

Shape words: num_items; batch; dim of a vector; width of a latent.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.placement import Layer, encode
from training.data_config import QuantizerConfig
from training.embeddings import Vectors
from training.quantizer import Quantized, code_level, finish, fit_codebook, threads

BATCH = 4096
"""Items that are encoded together once the network has learned."""
START = 256
"""Codebooks start from at most this many items per code of the largest one."""


class RqVae(nn.Module):
    """Encoder, codebooks and decoder.

    Args:
        dims: dim, the hidden layers, width.
        generator: draws the first weights.
    """

    def __init__(self, dims: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = _perceptron(dims, generator)
        self.decoder = _perceptron(dims[::-1], generator)
        self.codebooks = nn.ParameterList()

    def forward(self, inputs: Tensor, beta: float) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Code a batch and make it again.

        Args:
            inputs: (batch, dim).
            beta: weight of the commitment.

        Returns:
            the loss; (batch,) codes of each level; (batch, width) what each level had to code.
        """
        latent = residual = self.encoder(inputs)
        loss = latent.new_zeros(())
        codes, residuals = [], []
        for codebook in self.codebooks:
            code = nearest(residual.detach(), codebook.detach())
            chosen = functional.embedding(code, codebook)
            loss = loss + functional.mse_loss(chosen, residual.detach())
            loss = loss + beta * functional.mse_loss(residual, chosen.detach())
            codes.append(code)
            residuals.append(residual.detach())
            residual = residual - chosen.detach()
        quantized = latent + (-residual).detach()  # the codes' sum; its gradient is the latent's
        return loss + functional.mse_loss(self.decoder(quantized), inputs), codes, residuals


def fit_rqvae(
    vectors: Vectors,
    config: QuantizerConfig,
    *,
    popularity: npt.NDArray[np.int64] | None = None,
    num_threads: int = 1,
) -> Quantized:
    """Learn encoder and codebooks and code every item; the same on every run with 1 thread.

    Args:
        vectors: (num_items, dim) float32.
        config: kind = "rq-vae"; sizes, seed, and how it learns.
        popularity: (num_items,) for collisions = "suffix": the popular item gets suffix 0.
        num_threads: more are faster, but sums may round differently.
    """
    with threads(num_threads):
        center, scale = vectors.mean(axis=0), _scale(vectors)
        model = train(torch.from_numpy((vectors - center) / scale), config)
        encoder = _with_scale(model.encoder, torch.from_numpy(center), scale)
        parts = torch.split(torch.from_numpy(vectors), BATCH)
        residual = torch.cat([encode(part, encoder).float() for part in parts]).numpy()
        codebooks = [codebook.detach().numpy() for codebook in model.codebooks]
        levels = []
        for codebook in codebooks:
            codes, residual = code_level(residual, codebook, config)
            levels.append(codes)
    return finish(levels, codebooks, config, popularity, encoder)


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """(batch,) int64: the code of the least distance, the lower of equals."""
    return (codebook.square().sum(dim=1) - 2 * points @ codebook.T).argmin(dim=1)


def train(inputs: Tensor, config: QuantizerConfig) -> RqVae:
    """Learn from (num_items, dim) vectors of mean 0 and a spread of about 1."""
    settings = config.rq_vae
    generator = torch.Generator().manual_seed(config.seed)
    dims = (inputs.shape[1], *settings.hidden_dims, settings.latent_dim)
    model = RqVae(dims, generator)
    some = torch.randperm(len(inputs), generator=generator)[: START * max(config.wanted_sizes)]
    _start_codebooks(model, inputs[some], config)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    used = [torch.zeros(len(codebook), dtype=torch.bool) for codebook in model.codebooks]
    batches = _batches(len(inputs), settings.batch_size, generator)
    for rows, is_last in islice(batches, settings.max_steps):
        loss, codes, residuals = model(inputs[rows], settings.beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for level, code in enumerate(codes):
            used[level][code] = True
            if is_last:
                restart(model.codebooks[level], ~used[level], residuals[level], generator)
                used[level].zero_()
    return model


@torch.no_grad()
def restart(
    codebook: Tensor, is_dead: Tensor, residuals: Tensor, generator: torch.Generator
) -> None:
    """Move unused codes, in place, to residuals drawn from a batch."""
    number = int(is_dead.sum())
    drawn = torch.randint(len(residuals), (number,), generator=generator)
    codebook[is_dead] = residuals[drawn]


@torch.no_grad()
def _start_codebooks(model: RqVae, inputs: Tensor, config: QuantizerConfig) -> None:
    """k-means on the latents, level by level."""
    residual = model.encoder(inputs).numpy()
    nearest_only = config.model_copy(update={"max_code_load": None})
    for level, wanted in enumerate(config.wanted_sizes):
        codebook = fit_codebook(residual, wanted, config, level)
        _, residual = code_level(residual, codebook, nearest_only)
        model.codebooks.append(nn.Parameter(torch.from_numpy(codebook)))


def _batches(
    num_items: int, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, bool]]:
    """Row numbers without end, and whether a batch is the last of its pass over all items.

    The batches of a pass are equally large, up to one item.
    """
    number = math.ceil(num_items / batch_size)
    while True:
        order = torch.randperm(num_items, generator=generator)
        for n, rows in enumerate(order.tensor_split(number), start=1):
            yield rows, n == number


def _perceptron(dims: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, after in pairwise(dims):
        linear = nn.Linear(width, after)
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _scale(vectors: Vectors) -> float:
    """How far the vectors are spread, one number for all dimensions: their weights stay."""
    return max(float(vectors.std(axis=0).mean()), 1e-6)


@torch.no_grad()
def _with_scale(encoder: nn.Sequential, center: Tensor, scale: float) -> tuple[Layer, ...]:
    """The encoder's layers, the first of which takes vectors as they are."""
    found = [
        Layer(module.weight.detach().clone(), module.bias.detach().clone())
        for module in encoder
        if isinstance(module, nn.Linear)
    ]
    weight = found[0].weight / scale
    return (Layer(weight, found[0].bias - weight @ center), *found[1:])

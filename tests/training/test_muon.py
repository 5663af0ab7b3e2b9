"""Muon turns its momentum into steps of equal size in every direction; what is no matrix takes Adam's."""

from __future__ import annotations

import pytest
import torch

from training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (32, 32)])
def test_singular_values_become_about_one_and_their_directions_stay(shape):
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(shape[0], min(shape), generator=generator))[0]
    right = torch.linalg.qr(torch.randn(shape[1], min(shape), generator=generator))[0]
    sizes = torch.linspace(0.2, 5, min(shape))
    turned = orthogonalised(left @ sizes.diag() @ right.T)
    inner = left.T @ turned @ right  # diagonal where the directions stayed
    assert inner.diagonal().min() > 0.5 and inner.diagonal().max() < 1.4
    assert (inner - inner.diagonal().diag()).abs().max() < 0.1


def test_matrices_of_one_shape_are_turned_each_by_itself():
    several = (
        torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0, 0.1])[:, None, None]
    )
    expected = torch.stack([orthogonalised(each) for each in several])
    torch.testing.assert_close(orthogonalised(several), expected, atol=2e-2, rtol=2e-2)


def test_embeddings_take_the_step_of_adam():
    embeddings = [torch.nn.Parameter(torch.zeros(40, 16)) for _ in range(2)]
    muon = Muon([{"params": embeddings[:1], "turned": False}], lr=0.1, weight_decay=0.01)
    adam = torch.optim.AdamW(embeddings[1:], lr=0.1, betas=(0.9, 0.99), weight_decay=0.01)
    for weight, optimizer in zip(embeddings, (muon, adam), strict=True):
        weight.grad = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
        optimizer.step()
    torch.testing.assert_close(embeddings[0], embeddings[1], atol=1e-5, rtol=1e-5)


def test_a_vector_takes_the_step_of_adam():
    weights = [torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0])) for _ in range(2)]
    muon = Muon(weights[:1], lr=0.1, weight_decay=0.01)
    adam = torch.optim.AdamW(weights[1:], lr=0.1, betas=(0.9, 0.99), weight_decay=0.01)
    for gradient in ([0.3, -1.0, 2.0], [0.5, 0.1, -1.0], [0.0, 0.2, 0.4]):
        for weight, optimizer in zip(weights, (muon, adam), strict=True):
            weight.grad = torch.tensor(gradient)
            optimizer.step()
    torch.testing.assert_close(weights[0], weights[1], atol=1e-5, rtol=1e-5)


def test_the_step_of_a_convolution_is_as_large_as_the_rate_says():
    weight = torch.nn.Parameter(torch.zeros(32, 16, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    Muon([weight], lr=0.01).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.25)

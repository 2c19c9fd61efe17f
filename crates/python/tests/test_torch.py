"""Torch tensors in, torch tensors out."""

import numpy as np
import pytest

import tokenrank as tr

torch = pytest.importorskip("torch")


def maps(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).mul(2).softmax(-1).to(dtype)


FUNCTIONS = [
    tr.token_rank,
    tr.lambda2,
    tr.column_sum,
    tr.row_stochastic,
    lambda a: tr.bounces(a, 1, 3),
    lambda a: tr.spectrum(a, 3).values,
    lambda a: tr.visits(a, 0).visits,
    lambda a: tr.metastable_sets(a, 2).assignment,
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_tensors_give_what_arrays_give(function, dtype):
    a = maps(2, 3, 12, 12, dtype=dtype)
    found, expected = function(a), function(a.numpy())
    assert isinstance(found, torch.Tensor) and isinstance(expected, np.ndarray)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_bfloat16_is_read_exactly():
    a = maps(4, 20, 20, dtype=torch.bfloat16)
    widened = a.float()
    np.testing.assert_array_equal(tr.row_stochastic(a), tr.row_stochastic(widened, tolerance=8e-3))
    found = tr.token_rank(a)
    assert found.dtype == torch.float64 and found.shape == (4, 20)
    rows = tr.row_stochastic(widened, tolerance=8e-3)
    np.testing.assert_allclose(found, tr.token_rank(rows), atol=1e-9)


def test_gradients_views_and_subclasses_are_read_as_they_are():
    a = maps(2, 3, 12, 12)
    expected = tr.token_rank(a)
    leaf = a.clone().requires_grad_()
    assert torch.equal(tr.token_rank(leaf), expected)
    assert torch.equal(tr.token_rank(torch.nn.Parameter(a)), expected)
    assert torch.equal(tr.token_rank(a.transpose(0, 1).contiguous().transpose(0, 1)), expected)
    with torch.inference_mode():
        assert torch.equal(tr.token_rank(a * 1.0), expected)


def test_cpu_tensors_are_not_copied():
    from tokenrank._convert import tensor_to_array

    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        a = maps(4, 4, dtype=dtype)
        assert tensor_to_array(a).__array_interface__["data"][0] == a.data_ptr()


def test_teleports_and_starts_may_be_tensors():
    a = maps(2, 5, 5)
    target = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0], dtype=torch.bfloat16).double()
    target = target / target.sum()
    np.testing.assert_allclose(
        tr.token_rank(a, teleport=target), tr.token_rank(a.numpy(), teleport=target.numpy()), atol=0
    )
    assert tr.bounces(a, torch.tensor([0, 1]), 2).shape == (2, 2, 2, 5)


@pytest.mark.parametrize(
    "tensor, words",
    [
        (torch.eye(3).to_sparse(), "dense"),
        (torch.zeros(3, 3, dtype=torch.uint16), "uint16"),
        (torch.eye(3, dtype=torch.complex64), "complex64"),
    ],
)
def test_other_tensors_are_refused(tensor, words):
    with pytest.raises(TypeError, match=words):
        tr.token_rank(tensor)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_results_are_on_the_device_of_the_input():
    a = maps(2, 8, 8).cuda()
    found = tr.token_rank(a)
    assert found.device == a.device
    np.testing.assert_array_equal(found.cpu(), tr.token_rank(a.cpu()))

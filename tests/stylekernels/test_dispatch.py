"""Plain torch takes the place of kernels that cannot run, and says so once."""

import os
import warnings

import pytest
import torch

from stylekernels.runtime import dispatch


@pytest.mark.skipif(not dispatch.has_triton(), reason="Triton is not installed")
@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="there kernels run on a CPU")
def test_a_device_that_kernels_do_not_run_on_is_found_out():
    with pytest.warns(UserWarning, match=r"Triton cannot run kernels on cpu \(.+\): plain PyTorch"):
        assert not dispatch.kernels_run.__wrapped__(torch.device("cpu"))


def test_a_gpu_without_triton_is_told_so(monkeypatch):
    monkeypatch.setattr(dispatch, "has_triton", lambda: False)
    message = r"Triton cannot run kernels on cuda \(it is not installed\): plain PyTorch"
    with pytest.warns(UserWarning, match=message):
        assert not dispatch.kernels_run.__wrapped__(torch.device("cuda"))
    asked = []
    monkeypatch.setattr(dispatch, "kernels_run", lambda device: bool(asked.append(device)))
    assert not dispatch.uses_triton(torch.empty(1))
    assert asked == [], "there is nothing to say about a CPU"
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    assert not dispatch.uses_triton(torch.empty(1))
    assert asked == [torch.device("cpu")]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_runs_them_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dispatch.kernels_run.__wrapped__(torch.device("cuda"))


def test_a_refusal_sends_gpu_operands_to_plain_torch(monkeypatch):
    operand = torch.empty(1, device="meta")
    monkeypatch.setattr(dispatch, "has_triton", lambda: True)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(dispatch, "kernels_run", lambda device: True)
    assert dispatch.uses_triton(operand)
    monkeypatch.setattr(dispatch, "kernels_run", lambda device: False)
    assert not dispatch.uses_triton(operand)

"""The state of an optimizer whose image is in bands, put together for a file and taken apart."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stylebench.processes.bands import Bands
from stylekernels.ops.lbfgs.state import padded

_VECTORS = ("history", "previous", "best", "first", "second")  # of the image's values; all else: no


def whole_state(state: Mapping[str, Tensor], image: Tensor, bands: Bands) -> dict[str, Tensor]:
    """The tensors of a process alone, on rank 0's CPU; on others parts of them.

    Args:
        state: of ``state_dict``, for the rows of this process.
        image: [1, 3, h, W], those rows.
        bands: of the picture.
    """
    if bands.ranks.alone:
        return dict(state)
    return {
        name: _joined(tensor, image, bands) if name in _VECTORS else tensor
        for name, tensor in state.items()
    }


def band_state(whole: Mapping[str, Tensor], image: Tensor, bands: Bands) -> dict[str, Tensor]:
    """The tensors of this process, of those of a process alone; those of another size stay."""
    if bands.ranks.alone:
        return dict(whole)
    return {
        name: _cut(tensor, image, bands) if name in _VECTORS else tensor
        for name, tensor in whole.items()
    }


def _joined(tensor: Tensor, image: Tensor, bands: Bands) -> Tensor:
    if tensor.shape == image.shape:
        return bands.at_first(tensor).cpu()
    values = 3 * bands.height * image.shape[3]
    lead = tensor.shape[:-1]
    if not bands.ranks.first:
        for vector in _vectors(tensor):
            bands.at_first(vector[: image.numel()].view(image.shape))
        return tensor
    joined = tensor.new_zeros((*lead, _stride(values, lead)), device="cpu")
    for vector, into in zip(_vectors(tensor), _vectors(joined), strict=True):
        into[:values] = bands.at_first(vector[: image.numel()].view(image.shape)).flatten()
    return joined


def _cut(tensor: Tensor, image: Tensor, bands: Bands) -> Tensor:
    _, _, _, width = image.shape
    shape = 1, 3, bands.height, width
    if tuple(tensor.shape) == shape:
        return bands.own(tensor)
    values, lead = 3 * bands.height * width, tensor.shape[:-1]
    if tensor.shape[-1:] != (_stride(values, lead),):
        return tensor  # which the optimizer refuses
    cut = tensor.new_zeros((*lead, _stride(image.numel(), lead)))
    for vector, into in zip(_vectors(tensor), _vectors(cut), strict=True):
        into[: image.numel()] = bands.own(vector[:values].view(shape)).flatten()
    return cut


def _vectors(tensor: Tensor) -> Tensor:
    return tensor.view(-1, tensor.shape[-1])


def _stride(values: int, lead: torch.Size) -> int:
    """The length of a vector: rows of several are padded."""
    return padded(values) if lead else values

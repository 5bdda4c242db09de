"""Hashes of tensors, by which pictures and weights are known again on any machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def hash_of(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 of tensors, with their names, types and shapes, and of a text; 64 digits."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()

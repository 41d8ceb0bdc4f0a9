"""A short text that tells whether data are still the same."""

import hashlib

from torch import Tensor


def fingerprint(*tensors: Tensor | None) -> str:
    """Return the SHA-256 of shapes, types and values; about a second for a gigabyte."""
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            digest.update(b"none")
        else:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().numpy().data)
    return digest.hexdigest()

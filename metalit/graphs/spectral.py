"""Spectral embeddings of a weighted graph."""

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import coo_array, diags_array, eye_array
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh, splu

from .types import Floats, Integers

_DENSE = 400  # rows up to which all eigenvalues at once are faster


def spectral_embedding(n: int, low: Integers, high: Integers, weights: Floats, k: int) -> Floats:
    """Embed a graph by the first k eigenvectors of its random walk (Shi and Malik, 2000).

    Args:
        n: Rows.
        low: One end of each of E edges, `(E,)`.
        high: The other end.
        weights: Positive, `(E,)`.
        k: Number of eigenvectors, less than n; the constant one is the first.

    Returns:
        Shape `(n, k)`, the columns with root mean square 1, the first constant.

    References:
        Normalized cuts and image segmentation, https://doi.org/10.1109/34.868688
    """
    ends = np.concatenate([low, high]), np.concatenate([high, low])
    graph = coo_array((np.concatenate([weights, weights]), ends), shape=(n, n)).tocsr()
    root = 1 / np.sqrt(graph.sum(axis=1) + 1e-12)
    walk = diags_array(root) @ graph @ diags_array(root)
    if n <= _DENSE:
        vectors = eigh(walk.toarray(), subset_by_index=[n - k, n - 1])[1][:, ::-1]
    else:
        start = np.ones(n)  # else the result differs from call to call
        try:
            shifted = (1.001 * eye_array(n) - walk).tocsc()
            # symmetric and positive definite, whose factor is far sparser in this order of rows
            factor = splu(
                shifted, "MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True}
            )
            inverse = LinearOperator(shifted.shape, factor.solve, dtype=np.float64)
            vectors = eigsh(shifted, k, sigma=0, OPinv=inverse, v0=start, tol=1e-6)[1]
        except (ArpackError, RuntimeError):  # no factor of the shifted matrix
            vectors = eigsh(walk, k, which="LA", tol=1e-3, v0=start)[1][:, ::-1]
    embedding = vectors * root[:, None]
    return np.asarray(embedding / np.sqrt(np.mean(embedding**2, axis=0)))

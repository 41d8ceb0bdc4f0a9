"""K-means whose clusters may be kept equally large by entropic optimal transport."""

import math

import torch
from torch import Tensor
from torch.nn.functional import softmax


def assign(
    cost: Tensor,
    temperature: float,
    balanced: bool,
    iterations: int,
    price: Tensor | None = None,
) -> Tensor:
    """Prices of the clusters, at which rows choose them softly and, if balanced, equally often.

    Row i chooses cluster k with the probability p_ik of softmax over k of
    `(price_k - cost_ik) / temperature`. Balanced prices are those at which the p_ik of each cluster
    add up to N / K: the plan of the least mean cost minus temperature times entropy. They are found
    by Sinkhorn's iterations (Cuturi, 2013), on logarithms, so that no temperature is too low.

    Args:
        cost: Of shape `(..., N, K)`.
        temperature: In the units of the cost.
        balanced: If not, all prices are 0.
        iterations: Of Sinkhorn; each scales the rows, then the clusters.
        price: Where to start, of shape `(..., 1, K)`; at 0 if None.

    Returns:
        Prices of shape `(..., 1, K)`.
    """
    price = torch.zeros_like(cost[..., :1, :]) if price is None else price
    share = math.log(cost.shape[-2] / cost.shape[-1])
    for _ in range(iterations if balanced else 0):
        log_p = ((price - cost) / temperature).log_softmax(-1)
        price = price + temperature * (share - log_p.logsumexp(-2, keepdim=True))
    return price


def fit_centres(
    z: Tensor, centres: Tensor, temperature: float, balanced: bool, iterations: int, steps: int
) -> tuple[Tensor, Tensor]:
    """Alternate between assignments and means, from one or several starts at once.

    Args:
        z: Rows of shape `(N, D)`.
        centres: First centres of shape `(..., K, D)`.
        temperature: See `assign`, in squared distances.
        balanced: See `assign`.
        iterations: See `assign`.
        steps: Updates of the centres.

    Returns:
        Centres of shape `(..., K, D)` and the prices that belong to them, `(..., 1, K)`.
    """
    price = None
    for _ in range(steps):
        cost = squared_distances(z, centres)
        # centres move little: going on from the prices before saves most iterations
        price = assign(cost, temperature, balanced, iterations, price)
        p = softmax((price - cost) / temperature, dim=-1)
        sizes = p.sum(-2).clamp_min(torch.finfo(p.dtype).tiny)
        centres = p.mT @ z / sizes.unsqueeze(-1)  # [..., K, D]
    cost = squared_distances(z, centres)
    return centres, assign(cost, temperature, balanced, iterations, price)


def free_energy(z: Tensor, centres: Tensor, price: Tensor, temperature: float) -> Tensor:
    """What k-means minimises: mean cost minus temperature times entropy of the assignments.

    Args:
        z: Rows of shape `(N, D)`.
        centres: Of shape `(..., K, D)`.
        price: Of shape `(..., 1, K)`.
        temperature: See `assign`.

    Returns:
        Values of shape `(...)`.
    """
    cost = squared_distances(z, centres)
    log_p = ((price - cost) / temperature).log_softmax(-1)
    energy: Tensor = (log_p.exp() * (cost + temperature * log_p)).sum(-1).mean(-1)
    return energy


def draw_starts(z: Tensor, n_clusters: int, starts: int, generator: torch.Generator) -> Tensor:
    """Draw first centres by k-means++ (Arthur and Vassilvitskii, 2007).

    Args:
        z: Rows of shape `(N, D)`; with fewer than `n_clusters` different ones centres repeat.
        n_clusters: Number of centres, K.
        starts: Number of draws, R.
        generator: On the CPU.

    Returns:
        Numbers of the rows, of shape `(R, K)`.
    """
    rows = torch.randint(len(z), (starts, 1), generator=generator).to(z.device)
    nearest = torch.full((starts, len(z)), math.inf, dtype=z.dtype, device=z.device)
    for _ in range(n_clusters - 1):
        nearest = nearest.minimum(squared_distances(z, z[rows[:, -1:]])[..., 0])
        # never all 0, also if all rows are equal
        chances = nearest.double().cpu() + torch.finfo(z.dtype).tiny
        if not bool(chances.isfinite().all()):
            raise ValueError(
                "rows to be clustered are NaN, infinite or too far apart for their distances: "
                "scale the data, or lower lr of the optimizer."
            )
        drawn = torch.multinomial(chances, 1, generator=generator)
        rows = torch.cat([rows, drawn.to(z.device)], dim=1)
    return rows


def squared_distances(z: Tensor, centres: Tensor) -> Tensor:
    """Squared distances of rows `(N, D)` and centres `(..., K, D)`, of shape `(..., N, K)`."""
    # by products: (..., N, K, D) would not fit into memory
    squares = z.square().sum(-1)[:, None] + centres.square().sum(-1).unsqueeze(-2)
    return (squares - 2 * z @ centres.mT).clamp_min(0)

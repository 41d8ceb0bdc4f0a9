"""Checks of a support set that several learners share."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from ..episodes import Samples


def check_labelled(name: str, support: Samples) -> None:
    """Refuse a support set of classes without a label."""
    if not bool((support.y >= 0).any()):
        raise ValueError(
            f"{name} needs labels but the support set has none (all are -1): label it, or take a "
            "clusterer or detector."
        )


@torch.no_grad()
def check_outputs(network: nn.Module, x: Tensor, width: str = "K") -> Tensor:
    """Refuse inputs that do not fit a network; return its outputs, of shape `(N, width)`."""
    name = type(network).__name__
    try:
        outputs: Tensor = network(x)
    except (IndexError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{name} cannot take samples of shape {tuple(x.shape[1:])} "
            f"({str(error).splitlines()[0]}): give it data of the shape that it was made for."
        ) from error
    if outputs.ndim != 2 or len(outputs) != len(x):
        raise ValueError(
            f"{name} returns shape {tuple(outputs.shape)} for {len(x)} samples but "
            f"({len(x)}, {width}) is needed: flatten its output."
        )
    return outputs


@torch.no_grad()
def check_embedding(network: nn.Module, x: Tensor) -> None:
    """Refuse inputs that do not fit a network, or come out so that there are no distances."""
    lengths = check_outputs(network, x, "D").float().square().sum(dim=1)
    bad = int((~lengths.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{type(network).__name__} embeds {bad} of {len(x)} samples as NaN, infinite or too "
            "large for their squares: scale the data, or fill what is missing."
        )


@torch.no_grad()
def check_network(network: nn.Module, inner_loss: nn.Module, support: Samples) -> None:
    """Refuse a support set whose labels do not fit the outputs of a network or its loss."""
    name, loss = type(network).__name__, type(inner_loss).__name__
    outputs = check_outputs(network, support.x)
    if support.y.is_floating_point() and outputs.shape != support.y.shape:
        raise ValueError(
            f"{name} returns {outputs.shape[1]} outputs but the targets of the episode "
            f"have shape {tuple(support.y.shape)}: make them equal."
        )
    way = 0 if support.y.is_floating_point() else int(support.y.max()) + 1
    if 1 < outputs.shape[1] < way:  # a single output is a score, not a class
        raise ValueError(
            f"{name} returns {outputs.shape[1]} outputs but the episode has way={way}: "
            "give the network as many outputs as the tasks have classes."
        )
    try:
        # on the CPU, where a label out of range is an error and not a lost device
        deepcopy(inner_loss).cpu()(outputs.cpu(), support.y.cpu())
    except (IndexError, RuntimeError, ValueError) as error:
        unlabelled = not support.y.is_floating_point() and bool((support.y < 0).any())
        reason = "it has samples without a label (-1)" if unlabelled else str(error).splitlines()[0]
        raise ValueError(
            f"inner_loss {loss} cannot score outputs of shape {tuple(outputs.shape)} against "
            f"this support set: {reason}; label it, or use a loss that fits."
        ) from error

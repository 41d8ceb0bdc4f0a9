"""What learners that train a network on the support set have in common."""

from copy import deepcopy

import torch
from torch import nn

from ..episodes import Samples


@torch.no_grad()
def check_network(network: nn.Module, inner_loss: nn.Module, support: Samples) -> None:
    """Refuse a support set whose labels do not fit the outputs of a network or its loss."""
    name, loss = type(network).__name__, type(inner_loss).__name__
    try:
        outputs = network(support.x)
    except (IndexError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{name} cannot take samples of shape {tuple(support.x.shape[1:])} "
            f"({str(error).splitlines()[0]}): give it data of the shape that it was made for."
        ) from error
    if outputs.ndim != 2 or len(outputs) != len(support.x):
        raise ValueError(
            f"{name} returns shape {tuple(outputs.shape)} for {len(support.x)} samples but "
            f"({len(support.x)}, K) is needed: flatten its output."
        )
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

"""Model-agnostic meta-learning."""

from fnmatch import fnmatchcase
from functools import partial

from torch import Tensor, nn
from torch.func import functional_call

from ..episodes import Samples
from ..inner_loops import InnerLoop, Params
from ._checks import check_network
from .base import Learner, Predictor


class MAML(Learner):
    """Learns initial weights from which a few gradient steps solve a new task (Finn et al., 2017).

    The inner loop adapts the network to the support set; the query loss is taken after it, and its
    gradient flows back through the adaptation into the initial weights. With `adapt="head.*"` only
    the head is adapted, which is ANIL (Raghu et al., 2020). With an unsupervised `inner_loss` the
    support labels are not needed, and the network learns to cluster or to detect in a few steps.

    Batch norm always uses the statistics of the set it is applied to (the transductive setting of
    the paper's code), so a query set is judged as a whole.

    Args:
        network: Maps x of shape `(N, *features)` to outputs of shape `(N, K)`. Batch norm must
            not keep running statistics.
        inner_loop: Adapts the parameters, for example `GradientDescent`.
        inner_loss: Loss of the support set, called as `(outputs, y)`.
        adapt: Pattern of the names of the parameters that the inner loop may change, in the form
            of `fnmatch`; the others are trained by the outer loop alone. It decides alone: a
            parameter with `requires_grad=False` is kept from the outer loop, not from the inner.

    Raises:
        ValueError: If `adapt` matches no parameter, or a batch norm keeps running statistics.

    Example:
        >>> import torch
        >>> from metalit.inner_loops import GradientDescent
        >>> maml = MAML(nn.Linear(2, 3), GradientDescent(lr=0.1), nn.CrossEntropyLoss())
        >>> support = Samples(torch.randn(6, 2), torch.tensor([0, 0, 1, 1, 2, 2]))
        >>> maml(support, torch.randn(4, 2)).shape
        torch.Size([4, 3])

    References:
        Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks,
        https://arxiv.org/abs/1703.03400
        Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML,
        https://arxiv.org/abs/1909.09157
    """

    def __init__(
        self, network: nn.Module, inner_loop: InnerLoop, inner_loss: nn.Module, adapt: str = "*"
    ) -> None:
        super().__init__()
        _refuse_running_statistics(network)
        names = [name for name, _ in network.named_parameters()]
        if not any(fnmatchcase(name, adapt) for name in names):
            raise ValueError(
                f"adapt={adapt!r} matches no parameter of {type(network).__name__}: "
                f"choose a pattern that matches some of {', '.join(names)}."
            )
        self.network = network
        self.inner_loop = inner_loop
        self.inner_loss = inner_loss
        self.adapt = adapt

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Adapt to the support set, then answer for the query inputs."""
        return self.learn(support)(query)  # the outer gradient flows back through the adaptation

    def learn(self, support: Samples) -> Predictor:
        """Run the inner loop; return the network with its fast parameters."""
        support_loss = partial(self.support_loss, support=support)
        fast = self.inner_loop(support_loss, self.initial_parameters())  # inner loop
        return partial(functional_call, self.network, fast)

    def support_loss(self, params: Params, support: Samples) -> Tensor:
        """Return the inner loss of a support set, a scalar, as a function of the parameters."""
        loss: Tensor = self.inner_loss(functional_call(self.network, params, support.x), support.y)
        return loss

    def initial_parameters(self) -> Params:
        """Return the meta-learned parameters that the inner loop adapts, by name."""
        parameters = self.network.named_parameters()
        return {name: value for name, value in parameters if fnmatchcase(name, self.adapt)}

    def check(self, support: Samples) -> None:
        """Refuse an episode whose labels do not fit the outputs or the inner loss."""
        check_network(self.network, self.inner_loss, support)


def _refuse_running_statistics(network: nn.Module) -> None:
    """Raise if a norm would update buffers in place, which `torch.func.grad` cannot follow."""
    for name, module in network.named_modules():
        if getattr(module, "running_mean", None) is not None:
            raise ValueError(
                f"{name or 'the network'} ({type(module).__name__}) keeps running statistics, "
                "which cannot be adapted per task: set track_running_stats=False, or call "
                "torch.func.replace_all_batch_norm_modules_(network)."
            )

"""metalit through its public API, with a user's plain network."""

from torch import Tensor, nn

from metalit import MetaLearner
from metalit.episodes import Episode, Samples
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import Accuracy

from ..workloads import State, Workload
from .base import TorchContender


class Ours(TorchContender):
    """`MetaLearner.score`, `backward`, Adam; the accuracy that it reports is paid for too.

    Args:
        model_options: Further arguments of `MetaLearner`, by name.
        inner_options: Further arguments of `GradientDescent`, by name.
    """

    def __init__(
        self,
        workload: Workload,
        state: State,
        model_options: dict[str, object] | None = None,
        inner_options: dict[str, object] | None = None,
    ) -> None:
        super().__init__(workload, state)
        inner_loop = GradientDescent(
            workload.lr, workload.steps, first_order=workload.first_order, **(inner_options or {})
        )
        maml = MAML(self.network, inner_loop, nn.CrossEntropyLoss())
        options = model_options or {}
        self.model = MetaLearner(maml, nn.CrossEntropyLoss(), Accuracy(), **options).train()
        self.episodes = Episode(
            Samples(state.support_x, state.support_y), Samples(state.query_x, state.query_y)
        )

    def loss(self) -> Tensor:
        loss, _ = self.model.score(self.episodes)
        return loss

    def backward(self) -> None:
        self.loss().backward()

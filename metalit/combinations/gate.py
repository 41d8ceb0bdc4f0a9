"""The meta-learned map from a task to the weights of base learners."""

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """Maps descriptors of a task, and landmarks of each base learner in it, to logits of weights.

    One small network looks at every base learner in turn, so that what it learned of one (a good
    landmark score is worth a large weight) holds for all; a linear map of its own for each base
    learner adds what is peculiar to it (trees like many rows). Trained by the outer loop over many
    tasks, it weighs the base learners of a NEW task before any of its labels are spent. At first
    all logits are nearly 0: equal weights.

    Args:
        learners: Number K of base learners.
        descriptors: Number T of descriptors of a task.
        landmarks: Number L of landmarks of a base learner.
        hidden: Hidden units of the shared network; 0 makes it linear in the landmarks.
    """

    def __init__(self, learners: int, descriptors: int, landmarks: int, hidden: int = 16) -> None:
        super().__init__()
        self.learners = learners
        self.descriptors = descriptors
        self.landmarks = landmarks
        self.hidden = hidden
        # no bias in the last layers: softmax does not see what all logits share
        self.shared: nn.Module
        if hidden > 0:
            last = nn.Linear(hidden, 1, bias=False)
            nn.init.normal_(last.weight, std=0.01)
            self.shared = nn.Sequential(nn.Linear(descriptors + landmarks, hidden), nn.Tanh(), last)
        else:
            self.shared = nn.Linear(landmarks, 1, bias=False)
            nn.init.zeros_(self.shared.weight)
        self.own = nn.Parameter(torch.zeros(learners, descriptors))
        self.bias = nn.Parameter(torch.zeros(learners))

    def forward(self, descriptors: Tensor, landmarks: Tensor) -> Tensor:
        """Return logits of shape `(K,)` for descriptors `(T,)` and landmarks `(K, L)`."""
        seen = landmarks
        if self.hidden > 0:
            seen = torch.cat([descriptors.expand(len(landmarks), -1), landmarks], dim=1)
        logits: Tensor = self.shared(seen)[:, 0] + self.own @ descriptors + self.bias
        return logits

"""The map from a task to the weights of base learners."""

import pytest
import torch

from metalit.combinations import Gate


@pytest.mark.parametrize("hidden", [0, 8])
def test_at_first_all_weights_are_nearly_equal(hidden):
    torch.manual_seed(0)
    weights = Gate(4, 3, 2, hidden)(torch.randn(3), torch.randn(4, 2)).softmax(dim=0)
    assert (weights - 0.25).abs().max().item() < 0.02


def test_what_is_learned_of_landmarks_holds_for_every_learner_and_every_number_of_them():
    gate = Gate(3, 2, 4, hidden=8)
    torch.nn.init.normal_(gate.shared[2].weight)
    descriptors, landmarks = torch.randn(2), torch.randn(3, 4)
    order = torch.tensor([2, 0, 1])
    logits = gate(descriptors, landmarks)
    torch.testing.assert_close(gate(descriptors, landmarks[order]), logits[order])


def test_the_shared_network_sees_the_task_too():
    gate = Gate(2, 3, 2, hidden=8)
    torch.nn.init.normal_(gate.shared[2].weight)
    landmarks = torch.randn(2, 2)
    one, other = (gate(descriptors, landmarks) for descriptors in (torch.zeros(3), torch.ones(3)))
    assert (one - other).abs().max().item() > 0.01


def test_what_is_peculiar_to_a_learner_is_linear_in_the_descriptors():
    gate = Gate(2, 3, 1, hidden=0)
    with torch.no_grad():
        gate.own.copy_(torch.tensor([[1.0, 0.0, -2.0], [0.0, 3.0, 0.0]]))
        gate.bias.copy_(torch.tensor([0.5, -0.5]))
        gate.shared.weight.fill_(10.0)
    logits = gate(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[0.1], [0.2]]))
    torch.testing.assert_close(logits, torch.tensor([1 - 6 + 0.5 + 1, 6 - 0.5 + 2]))

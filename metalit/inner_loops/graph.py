"""What a graph of autograd begins with."""

from collections.abc import Iterable

from torch import Tensor

from ..batching import TaskTensor


def value_of(tensor: Tensor) -> Tensor:
    """Return the value of all tasks where there are several, else the tensor itself."""
    return tensor.value if isinstance(tensor, TaskTensor) else tensor


def leaf_of(tensor: Tensor) -> Tensor:
    """Return a tensor of the same value that a graph begins with."""
    # what was made in inference mode cannot begin a graph, a copy can
    inference = value_of(tensor).is_inference()
    return (tensor.clone() if inference else tensor.detach()).requires_grad_()


def captured_leaves(outputs: Iterable[Tensor], inputs: Iterable[Tensor]) -> list[Tensor]:
    """Return the leaves that the graph of some outputs begins with, beside its inputs."""
    own = {id(value_of(tensor)) for tensor in inputs}
    waiting = [value_of(tensor).grad_fn for tensor in outputs]
    seen, found = set(waiting), {}
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        variable = getattr(node, "variable", None)  # of a node that stands for a leaf
        if variable is not None and id(variable) not in own:
            found[id(variable)] = variable
        following = {function for function, _ in node.next_functions} - seen
        seen |= following
        waiting.extend(following)
    return list(found.values())

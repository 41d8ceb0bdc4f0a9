import torch

from metalit.datasets.fingerprint import fingerprint


def test_every_change_of_values_types_shapes_or_labels_gives_another_fingerprint() -> None:
    x, y = torch.arange(1.0, 200_001).reshape(2, -1), torch.tensor([0, 1])
    last = x.clone()
    last[-1, -1] += 1
    data = [(x, y), (x, None), (x,), (None, x), (last, y), (x, 1 - y), (x, y.int())]
    data += [(x.reshape(-1, 2), y), (x.view(torch.int32), y)]
    assert len({fingerprint(*tensors) for tensors in data}) == len(data)


def test_equal_data_have_one_fingerprint_however_they_lie_in_memory() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    assert fingerprint(x.T.contiguous().T.requires_grad_()) == fingerprint(x)

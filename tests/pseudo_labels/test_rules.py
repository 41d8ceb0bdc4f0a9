import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalit import Samples
from metalit.pseudo_labels import (
    CannotLink,
    KnownLabels,
    LabellingFunction,
    MustLink,
    Rule,
    assign,
    gather_rules,
)


def relabel(rules: list[Rule], logits: torch.Tensor, y: torch.Tensor | None = None) -> list[int]:
    y = torch.full((len(logits),), -1) if y is None else y
    support = Samples(torch.arange(float(len(logits)))[:, None], y)
    return assign(logits, gather_rules(rules, support, logits.shape[1])).tolist()


LOGITS = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0], [0.1, 0.0, 0.0]])


def test_without_rules_each_row_takes_its_best_label() -> None:
    assert relabel([], LOGITS) == [0, 1, 2, 0]


def test_linked_rows_take_the_label_of_the_largest_sum() -> None:
    assert relabel([MustLink([(1, 2)]), MustLink([(2, 3)])], LOGITS) == [0, 1, 1, 1]


def test_of_two_rows_that_cannot_be_linked_the_less_certain_gives_way() -> None:
    assert relabel([CannotLink([(0, 3)])], LOGITS)[0] == 0
    assert relabel([CannotLink([(0, 3)])], LOGITS)[3] != 0


def test_known_labels_and_labelling_functions_hold() -> None:
    y = torch.tensor([-1, -1, -1, 2])
    assert relabel([KnownLabels()], LOGITS, y) == [0, 1, 2, 2]
    function = LabellingFunction(lambda x: torch.where(x[:, 0] < 1, 1, -1))
    assert relabel([function], LOGITS) == [1, 1, 2, 0]


def test_a_known_label_is_denied_to_rows_that_cannot_be_linked_with_it() -> None:
    rules = [KnownLabels(), CannotLink([(1, 0)])]
    assert relabel(rules, LOGITS, torch.tensor([1, -1, -1, -1]))[1] != 1


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([MustLink([(0, 1)]), CannotLink([(1, 0)])], "rows 1 and 0 cannot be linked but"),
        ([MustLink([(0, 4)])], r"links rows \(0, 4\) but two different rows in \[0, 4\)"),
        ([CannotLink([(2, 2)])], r"links rows \(2, 2\) but two different"),
        ([KnownLabels(), MustLink([(2, 3)])], "row 3 has label 1 but .* have label 0"),
        ([KnownLabels(), CannotLink([(1, 3)])], "rows 1 and 3 cannot be linked but"),
        ([LabellingFunction(lambda x: torch.full((4,), 3))], "values up to 3 but"),
        ([LabellingFunction(lambda x: torch.zeros(2).long())], r"shape \(2,\) and"),
        ([CannotLink([(i, j) for i in range(4) for j in range(i)])], "cannot be linked with rows"),
    ],
)
def test_rules_that_cannot_hold_are_an_error(rules: list[Rule], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        relabel(
            rules, LOGITS, torch.tensor([-1, 1, 0, 1]) if KnownLabels in map(type, rules) else None
        )
    assert "\n" not in str(error.value)


row = st.integers(0, 7)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(row, row), max_size=5), st.lists(st.tuples(row, row), max_size=5))
def test_rules_that_do_not_contradict_each_other_always_hold(must: list, cannot: list) -> None:
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    must, cannot = ([(i, j) for i, j in pairs if i != j] for pairs in (must, cannot))
    components = list(range(8))
    for i, j in must:
        components = [components[i] if c == components[j] else c for c in components]
    if any(components[i] == components[j] for i, j in cannot):
        with pytest.raises(ValueError, match="other rules give them one label"):
            relabel([MustLink(must), CannotLink(cannot)], logits)
        return
    labels = relabel([MustLink(must), CannotLink(cannot)], logits)
    assert all(labels[i] == labels[j] for i, j in must)
    assert all(labels[i] != labels[j] for i, j in cannot)

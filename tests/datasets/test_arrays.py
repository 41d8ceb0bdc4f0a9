"""Arrays and read_table: every format, the splits, and bad files."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metalit.datasets import Arrays, read_table
from metalit.datasets._splits import select

SPLITS = ("train", "val", "test")


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(40, 3)), columns=["a", "b", "c"])
    table["kind"] = [f"k{i % 8}" for i in range(40)]
    return table


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_read_with_its_text_labels(frame, tmp_path, suffix):
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        frame.to_csv(path)  # with the row index, which is not a feature
    else:
        frame.to_parquet(path)
    x, y = read_table(str(path), "kind")
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, frame[["a", "b", "c"]].to_numpy(np.float32))
    assert y.tolist() == frame["kind"].tolist()


def test_npz_labels_of_a_named_key(tmp_path):
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6)
    np.savez(tmp_path / "t.npz", X=x, target=y)
    read_x, read_y = read_table(str(tmp_path / "t.npz"), "target")
    np.testing.assert_array_equal(read_x, x)
    np.testing.assert_array_equal(read_y, y)
    assert read_table(str(tmp_path / "t.npz"))[1] is None


def test_the_default_label_names_are_found(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.zeros((2, 3)), y=np.array(["b", "a"]))
    (tmp_path / "t.csv").write_text("u,label\n1,b\n2,a\n")
    for name in ("t.npz", "t.csv"):
        assert read_table(str(tmp_path / name))[1].tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["2", "", "5"], [2, -1, 5]),
        (["-1", "3", "4.0"], [-1, 3, 4]),
        (["NA", "", " None"], ["NA", "", "None"]),  # classes, not missing values
        (["1", "x", "nan"], ["1", "x", "nan"]),
    ],
)
def test_empty_labels_mean_unlabelled(tmp_path, cells, expected):
    (tmp_path / "t.csv").write_text("u,label\n" + "".join(f"0.5,{cell}\n" for cell in cells))
    assert read_table(str(tmp_path / "t.csv"))[1].tolist() == expected


def test_missing_labels_of_a_parquet_table_mean_unlabelled(tmp_path):
    pd.DataFrame({"u": [1, 2, 3], "n": [4.0, None, 5.0], "t": ["a", None, "b"]}).to_parquet(
        tmp_path / "t.parquet"
    )
    (tmp_path / "t.csv").write_text("u,r\n1,0.5\n2,\n")
    path = str(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="column 't'"):
        read_table(path, "n")
    pd.read_parquet(path).drop(columns="t").to_parquet(tmp_path / "n.parquet")
    assert read_table(str(tmp_path / "n.parquet"), "n")[1].tolist() == [4, -1, 5]
    pd.read_parquet(path).drop(columns="n").to_parquet(tmp_path / "s.parquet")
    assert read_table(str(tmp_path / "s.parquet"), "t")[1].tolist() == ["a", "", "b"]
    np.testing.assert_array_equal(read_table(str(tmp_path / "t.csv"), "r")[1], [0.5, np.nan])


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 1), (5, 6, 7, 3), (5, 3, 6, 7)])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_images_get_their_channels_first(tmp_path, shape, dtype):
    images = (np.arange(np.prod(shape)) % 256).astype(dtype).reshape(shape)
    np.save(tmp_path / "t.npy", images)
    x, y = read_table(str(tmp_path / "t.npy"))
    channels_first = images[:, None] if len(shape) == 3 else images
    if len(shape) == 4 and shape[3] < 6:
        channels_first = np.stack([images[..., c] for c in range(shape[3])], axis=1)
    np.testing.assert_array_equal(x, channels_first)
    assert x.dtype == (np.float32 if dtype == "float64" else np.uint8)
    assert y is None


def test_unlabelled_rows_go_to_exactly_one_split(tmp_path):
    np.save(tmp_path / "t.npy", np.arange(20, dtype=np.float32).reshape(20, 1))
    splits = [Arrays(split, str(tmp_path / "t.npy"), seed=3) for split in SPLITS]
    assert [len(split.tensors) for split in splits] == [1, 1, 1]
    assert [len(split) for split in splits] == [14, 3, 3]
    assert sorted(torch.cat([split.tensors[0] for split in splits])[:, 0].tolist()) == list(
        range(20)
    )
    again = Arrays("val", str(tmp_path / "t.npy"), seed=3)
    other = Arrays("val", str(tmp_path / "t.npy"), seed=4)
    assert torch.equal(again.tensors[0], splits[1].tensors[0])
    assert again.rows != other.rows


def test_classes_are_disjoint_between_splits_and_labels_stay_with_their_rows(frame, tmp_path):
    frame.to_csv(tmp_path / "t.csv", index=False)
    splits = [Arrays(split, str(tmp_path / "t.csv"), label="kind") for split in SPLITS]
    assert sorted(name for split in splits for name in split.classes) == [f"k{i}" for i in range(8)]
    for split in splits:
        x, y = split.tensors
        assert y.dtype == torch.int64
        assert sorted(set(y.tolist())) == list(range(len(split.classes)))
        assert [split.classes[i] for i in y] == frame["kind"][split.rows].tolist()
        expected = frame[["a", "b", "c"]].to_numpy(np.float32)[split.rows]
        np.testing.assert_array_equal(x.numpy(), expected)


def test_by_row_keeps_every_class_name_in_every_split(frame, tmp_path):
    frame.to_csv(tmp_path / "t.csv", index=False)
    for split in SPLITS:
        data = Arrays(split, str(tmp_path / "t.csv"), label="kind", by="row")
        assert data.classes == [f"k{i}" for i in range(8)]
        assert [data.classes[i] for i in data.tensors[1]] == frame["kind"][data.rows].tolist()


def test_rows_without_a_label_go_to_train_when_classes_are_split(tmp_path):
    y = np.array([-1] * 50 + [0, 1, 2, 3, 4] * 2)
    np.savez(tmp_path / "t.npz", x=np.zeros((60, 4, 4), np.uint8), y=y)
    train, val, test = (Arrays(split, str(tmp_path / "t.npz")) for split in SPLITS)
    assert (len(train), len(val), len(test)) == (56, 2, 2)
    assert train.tensors[1].tolist().count(-1) == 50
    assert train.tensors[0].dtype == torch.uint8
    assert -1 not in val.tensors[1]


def test_a_folder_gives_each_split_its_file(tmp_path):
    for i, split in enumerate(SPLITS):
        (tmp_path / f"{split}.csv").write_text(f"u,label\n{i},b\n{i},a\n")
    for i, split in enumerate(SPLITS):
        data = Arrays(split, str(tmp_path))
        assert data.tensors[0].tolist() == [[i], [i]]
        assert data.tensors[1].tolist() == [1, 0]
        assert data.classes == ["a", "b"]
    (tmp_path / "val.npy").touch()
    with pytest.raises(ValueError, match=r"holds val.npy and val.csv: keep one"):
        Arrays("val", str(tmp_path))
    (tmp_path / "test.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no test\.npz"):
        Arrays("test", str(tmp_path))


@given(
    st.lists(st.integers(-1, 6), min_size=1, max_size=40),
    st.sampled_from(["class", "row"]),
    st.integers(0, 5),
)
def test_splits_are_a_partition_of_the_rows(labels, by, seed):
    labels = np.array(labels)
    fractions = (0.5, 0.25, 0.25)
    parts = (
        len(set(labels.tolist()) - {-1}) if by == "class" and (labels >= 0).any() else len(labels)
    )
    if parts < 3:
        with pytest.raises(ValueError, match="cannot be split"):
            select("val", labels, len(labels), fractions, by, seed)
        return
    chosen = [select(s, labels, len(labels), fractions, by, seed) for s in SPLITS]
    assert sorted(np.concatenate([c.rows for c in chosen]).tolist()) == list(range(len(labels)))
    for c in chosen:
        own = (
            [-1] * len(c.rows)
            if c.y is None
            else [int(c.classes[i]) if i >= 0 else -1 for i in c.y]
        )
        assert own == labels[c.rows].tolist()


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("a,b\n1,2\n3,\n,nan\n", None, r"3 values of .* first in row 1 .*, column 'b': fill"),
        ("a,b\n1,1e300\n", None, "1 values of .* column 'b'"),
        ("a,city\n1,Oslo\n", None, "column 'city' of .* holds 'Oslo' .* pass label='city'"),
        ("a,b\n1,2\n", "kind", r"has no column 'kind' but \['a', 'b'\]"),
        ("label\n1\n", None, "no column but the labels"),
        ("5.1,3.5\n4.9,3.0\n", None, "first line of .* is all numbers"),
        ("a,b\n1,2,3\n4,5,6\n", None, "more cells than the 2 column names"),
        ("a,b\n1,2\n3,4,5\n", None, "cannot be read as a table"),
        ("a,b\n", None, "holds 0 examples"),
        ("", None, "cannot be read as a table"),
        ("a,label\n1,0.5\n2,0.25\n", None, "labels of .* are fractions"),
        ("a,label\n1,x\n2,y\n", None, "2 classes cannot be split .* by='row'"),
    ],
)
def test_a_bad_table_gets_one_line(tmp_path, text, label, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        Arrays("train", str(tmp_path / "t.csv"), label=label)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.zeros(3)}, r"holds the arrays \['z'\] but not x, X or images"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(2, int)}, "3 examples and 2 labels"),
        ({"x": np.array([[0.0, 1.0], [np.inf, 2.0]])}, r"row 1 .*, index \(0,\)"),
        ({"x": np.full((2, 4, 4), 300)}, "whole numbers from 300 to 300"),
        ({"x": np.zeros(3)}, r"shape \(3,\)"),
        ({"x": np.array([["a", "b"]])}, "should be numbers"),
        ({"x": np.zeros((3, 2)), "y": np.zeros((3, 2))}, r"labels of .* shape \(3, 2\)"),
        ({"x": np.array([[None]])}, "cannot be read"),
    ],
)
def test_a_bad_npz_gets_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        Arrays("train", str(tmp_path / "t.npz"))
    assert "\n" not in str(error.value)


def test_files_that_are_damaged_missing_or_unknown_are_named(tmp_path):
    for name in ("t.npz", "t.npy", "t.parquet"):
        (tmp_path / name).write_bytes(b"not what the name says")
        with pytest.raises(ValueError, match=f"{name} cannot be read") as error:
            read_table(str(tmp_path / name))
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="unknown suffix"):
        read_table(str(tmp_path / "t.xlsx"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_table(str(tmp_path / "u.csv"))


@pytest.mark.parametrize(
    ("split", "arguments", "message"),
    [
        ("valid", {}, "'valid' is unknown"),
        ("train", {"by": "file"}, "by='file' is unknown"),
        ("train", {"fractions": (0.5, 0.2, 0.2)}, "sum of 1"),
        ("test", {"fractions": (0.8, 0.2, 0.0)}, "share of 'test' .* is 0"),
        ("train", {}, "2 rows cannot be split"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, split, arguments, message):
    np.save(tmp_path / "t.npy", np.zeros((2, 1)))
    with pytest.raises(ValueError, match=message):
        Arrays(split, str(tmp_path / "t.npy"), **arguments)


def test_environment_variables_in_the_path_are_filled_in(tmp_path, monkeypatch):
    np.savez(tmp_path / "rows.npz", x=np.arange(40.0).reshape(20, 2))
    monkeypatch.setenv("ROWS_FOLDER", str(tmp_path))
    assert len(Arrays("train", "$ROWS_FOLDER/rows.npz", fractions=(1, 0, 0))) == 20

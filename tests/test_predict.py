import numpy as np
import pandas as pd
import pytest
import torch
from lightning import Trainer
from PIL import Image
from torch import nn

from metalit import MetaLearner, Samples
from metalit.data import SupportQuery
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.losses import BinaryCrossEntropy, OneClassCrossEntropy, SoftKMeans
from metalit.main import main
from metalit.metrics import AUROC, Accuracy, MeanSquaredError
from metalit.networks import MLP

NAMES = np.array(["rose", "daisy", "iris"])


def checkpoint(folder, network, inner_loss, metric, loss=None):
    """Write a checkpoint of a model that was built in Python, as Trainer does."""
    torch.manual_seed(0)
    loop = GradientDescent(lr=0.5, steps=1, eval_steps=3)
    model = MetaLearner(MAML(network, loop, inner_loss), loss or inner_loss, metric)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "model.ckpt")
    return model.eval()


def predict(folder, support, query, *options):
    arguments = ["--data", "SupportQuery", "--data.support", str(support)]
    arguments += ["--data.query", str(query), "--trainer.default_root_dir", str(folder / "runs")]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    main(["predict", "--ckpt_path", str(folder / "model.ckpt"), *arguments, *quiet, *options])


def answers(model, x, y, query):
    """Call the learner itself."""
    as_tensor = [torch.as_tensor(a, dtype=torch.float32) for a in (x, query)]
    return model.learner(Samples(as_tensor[0], torch.as_tensor(y)), as_tensor[1]).detach()


def save(frame, file):
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    elif file.suffix == ".parquet":
        frame.to_parquet(file, index=False)
    else:
        features = frame.drop(columns="class", errors="ignore").to_numpy()
        labels = {"class": frame["class"].to_numpy().astype(str)} if "class" in frame else {}
        np.savez(file, x=features, **labels)
    return file


def read(file):
    if file.suffix == ".csv":
        return pd.read_csv(file)
    if file.suffix == ".parquet":
        return pd.read_parquet(file)
    return pd.DataFrame(dict(np.load(file)))


@pytest.fixture
def flowers():
    """Support rows of three named classes, and query rows."""
    rng = np.random.default_rng(0)
    y = np.array([2, 0, 1, 1, 0, 2])
    return rng.normal(size=(6, 4)) + y[:, None], y, rng.normal(size=(5, 4))


def table(x):
    return pd.DataFrame(x, columns=[f"f{i}" for i in range(x.shape[1])])


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_predictions_for_tables_are_those_of_the_learner(suffix, flowers, tmp_path, capsys):
    x, y, query = flowers
    model = checkpoint(tmp_path, MLP(4, 8, 5), nn.CrossEntropyLoss(), Accuracy())
    support = save(table(x).assign(**{"class": NAMES[y]}), tmp_path / f"a{suffix}")
    out = tmp_path / f"out{suffix}"
    new = save(table(query), tmp_path / f"b{suffix}")
    predict(tmp_path, support, new, "--data.label", "class", "--predictions.file", str(out))

    found, order = read(out), np.argsort(NAMES)  # sorted names: daisy, iris, rose
    expected = answers(model, x, np.argsort(order)[y], query)[:, :3].double().softmax(1).numpy()
    columns = [f"probability_{name}" for name in NAMES[order]]
    assert list(found) == ["name", "prediction", *columns]
    assert [str(name) for name in found["name"]] == list("01234")
    # alone, a task is rounded otherwise than among others
    np.testing.assert_allclose(found[columns], expected, rtol=1e-5, atol=1e-6)
    assert found["prediction"].tolist() == NAMES[order][expected.argmax(1)].tolist()
    assert f"5 predictions: {out}" in capsys.readouterr().out


def test_predictions_go_to_the_run_of_the_checkpoint_and_labels_of_the_query_are_not_read(
    flowers, tmp_path
):
    x, y, query = flowers
    checkpoints = tmp_path / "runs" / "version_4" / "checkpoints"
    checkpoints.mkdir(parents=True)
    checkpoint(tmp_path, MLP(4, 8, 3), nn.CrossEntropyLoss(), Accuracy())
    (tmp_path / "model.ckpt").rename(checkpoints / "best.ckpt")
    (tmp_path / "model.ckpt").symlink_to(checkpoints / "best.ckpt")
    support = save(table(x).assign(label=y), tmp_path / "a.csv")
    labelled = save(table(query).assign(label="?"), tmp_path / "b.csv")
    arguments = ["predict", "--ckpt_path", "best", "--trainer.default_root_dir"]
    arguments += [str(tmp_path / "runs"), "--data", "SupportQuery", "--data.support", str(support)]
    main([*arguments, "--data.query", str(labelled), "--trainer.enable_progress_bar", "false"])
    names = sorted(file.name for file in checkpoints.parent.iterdir())
    assert names == ["checkpoints", "predict.yaml", "predictions.csv"]
    assert set(pd.read_csv(checkpoints.parent / "predictions.csv")["prediction"]) <= {0, 1, 2}


def test_a_folder_of_images_is_answered_image_by_image(tmp_path):
    model = checkpoint(tmp_path, MLP(64, 8, 3), nn.CrossEntropyLoss(), Accuracy())
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(7, 8, 8), dtype=np.uint8)
    paths = ["a/cat/1.png", "a/cat/2.png", "a/dog/1.png", "a/dog/2.png"]
    paths += ["b/x.png", "b/y.png", "b/z.png"]
    for path, image in zip(paths, pixels, strict=True):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / path)
    out = tmp_path / "out.csv"
    options = ["--data.image_size", "8", "--predictions.file", str(out)]
    predict(tmp_path, tmp_path / "a", tmp_path / "b", *options)
    found, x = pd.read_csv(out), pixels.reshape(7, 64) / 255
    expected = answers(model, x[:4], [0, 0, 1, 1], x[4:])[:, :2].double().softmax(1).numpy()
    assert found["name"].tolist() == ["x.png", "y.png", "z.png"]
    columns = ["probability_cat", "probability_dog"]
    # alone, a task is rounded otherwise than among others
    np.testing.assert_allclose(found[columns], expected, rtol=1e-5, atol=1e-6)
    assert found["prediction"].tolist() == [("cat", "dog")[k] for k in expected.argmax(1)]


@pytest.mark.parametrize("labelled", [False, True])
def test_a_clusterer_numbers_its_clusters_with_labels_or_without(labelled, flowers, tmp_path):
    x, y, query = flowers
    model = checkpoint(tmp_path, MLP(4, 8, 3), SoftKMeans(), Accuracy(), nn.CrossEntropyLoss())
    frame = table(x).assign(label=NAMES[y]) if labelled else table(x)
    support, new = save(frame, tmp_path / "a.csv"), save(table(query), tmp_path / "b.csv")
    predict(tmp_path, support, new, "--predictions.file", str(tmp_path / "out.csv"))
    found = pd.read_csv(tmp_path / "out.csv")
    expected = answers(model, x, np.full(6, -1), query).double().softmax(1).numpy()
    np.testing.assert_allclose(found[[f"probability_{k}" for k in range(3)]], expected, atol=1e-6)
    assert found["prediction"].tolist() == expected.argmax(1).tolist()


def test_a_detector_learns_from_unlabelled_rows_and_answers_with_scores(flowers, tmp_path):
    x, _, query = flowers
    loss = BinaryCrossEntropy()
    model = checkpoint(tmp_path, MLP(4, 8, 1), OneClassCrossEntropy(), AUROC(), loss)
    support, new = save(table(x), tmp_path / "a.csv"), tmp_path / "b.csv"
    predict(
        tmp_path, support, save(table(query), new), "--predictions.file", str(tmp_path / "o.csv")
    )
    found = pd.read_csv(tmp_path / "o.csv")
    assert list(found) == ["name", "score"]
    expected = answers(model, x, np.zeros(6, dtype=int), query)[:, 0].numpy()
    np.testing.assert_allclose(found["score"], expected, atol=1e-6)
    model.learner.inner_loop.eval_steps = 0
    unadapted = answers(model, x, np.zeros(6, dtype=int), query)[:, 0].numpy()
    assert not np.allclose(found["score"], unadapted, atol=1e-3)


def test_standardize_uses_the_mean_and_deviation_of_the_support_set(tmp_path):
    draw = np.random.default_rng(0)
    x, query = draw.normal(50, 9, (20, 3)), draw.normal(50, 9, (5, 3))
    x[:, 2] = 7.0  # a constant column is only centred
    support, new = save(table(x), tmp_path / "a.csv"), save(table(query), tmp_path / "b.csv")
    data = SupportQuery(str(support), str(new), standardize=True)
    data.setup("predict")
    episode = next(iter(data.predict_dataloader()))
    deviation = np.where(x.std(0, ddof=1) > 0, x.std(0, ddof=1), 1)
    for found, given in ((episode.support.x, x), (episode.query.x, query)):
        np.testing.assert_allclose(found[0], (given - x.mean(0)) / deviation, atol=1e-5)


def test_a_missing_target_is_refused_and_not_taken_for_minus_one(tmp_path):
    frame = table(np.ones((3, 2))).assign(label=[1, None, 3])
    support, new = save(frame, tmp_path / "a.csv"), save(table(np.ones((2, 2))), tmp_path / "b.csv")
    data = SupportQuery(str(support), str(new), regression=True)
    with pytest.raises(ValueError, match="each must be a number"):
        data.setup("predict")


def test_invert_swaps_dark_and_bright(tmp_path):
    for folder in ("new", "old/a"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("L", (8, 8), 255).save(tmp_path / folder / "white.png")
    options = {"image_size": 8, "channels": 1}
    for invert, value in ((False, 1.0), (True, 0.0)):
        data = SupportQuery(str(tmp_path / "old"), str(tmp_path / "new"), invert=invert, **options)
        data.setup("predict")
        episode = next(iter(data.predict_dataloader()))
        assert (episode.support.x == value).all()
        assert (episode.query.x == value).all()


@pytest.mark.parametrize("whole", [False, True])
def test_a_regression_answers_with_targets(whole, flowers, tmp_path):
    x, _, query = flowers
    model = checkpoint(tmp_path, MLP(4, 8, 1), nn.MSELoss(), MeanSquaredError())
    y = np.round(x.sum(1)) if whole else x.sum(1)
    support = save(table(x).assign(label=y), tmp_path / "a.csv")
    options = ["--data.regression", "true"] if whole else []
    out = str(tmp_path / "out.csv")
    new = save(table(query), tmp_path / "b.csv")
    predict(tmp_path, support, new, "--predictions.file", out, *options)
    found = pd.read_csv(out)
    assert list(found) == ["name", "target_0"]
    expected = answers(model, x, torch.tensor(y[:, None], dtype=torch.float32), query)[:, 0]
    np.testing.assert_allclose(found["target_0"], expected, rtol=1e-5, atol=1e-6)


def test_tables_of_images_take_their_shape(tmp_path, flowers):
    x, _, query = flowers
    data = SupportQuery(
        str(save(table(x), tmp_path / "a.csv")), str(save(table(query), tmp_path / "b.csv")),
        shape=[1, 2, 2],
    )  # fmt: skip
    data.setup("predict")
    episode = next(iter(data.predict_dataloader()))
    assert episode.support.x.shape == (1, 6, 1, 2, 2)
    np.testing.assert_allclose(episode.query.x.reshape(5, 4), query, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"label": list("abcdef")}, "MLP returns 3 outputs but the episode has way=6"),
        ({"label": ["a", "", "b", "b", "a", "a"]}, r"without a label \(-1\); label it"),
        ({"f9": 1.0}, r"MLP cannot take samples of shape \(5,\)"),
    ],
)
def test_tables_that_do_not_fit_the_model_are_refused(change, expected, flowers, tmp_path):
    x, y, query = flowers
    checkpoint(tmp_path, MLP(4, 8, 3), nn.CrossEntropyLoss(), Accuracy())
    support = save(table(x).assign(**{"label": y, **change}), tmp_path / "a.csv")
    change.pop("label", None)
    new = save(table(query).assign(**change), tmp_path / "b.csv")
    with pytest.raises(ValueError, match=expected):
        predict(tmp_path, support, new)


@pytest.mark.parametrize(
    ("change", "columns", "options", "expected"),
    [
        ({"f9": 1.0}, None, {}, r"support samples have shape \(5,\) but query samples \(4,\)"),
        ({}, ["f1", "f0", "f2", "f3"], {}, "the same columns in the same order"),
        ({}, None, {"label": "species"}, "has no column 'species'"),
        ({"f0": np.nan}, None, {}, "are NaN or infinite"),
        ({}, None, {"shape": [2, 3]}, r"shape=\[2, 3\] needs 6"),
        ({"label": list("aabbcc")}, None, {"regression": True}, "hold text or nothing"),
    ],
)
def test_tables_that_do_not_fit_each_other_are_refused(
    change, columns, options, expected, flowers, tmp_path
):
    x, y, query = flowers
    support = save(table(x).assign(**{"label": y, **change}), tmp_path / "a.csv")
    new = save(table(query)[columns or ["f0", "f1", "f2", "f3"]], tmp_path / "b.csv")
    with pytest.raises(ValueError, match=expected):
        SupportQuery(str(support), str(new), **options).setup("predict")


def test_a_checkpoint_that_was_built_in_python_loads_without_arguments(tmp_path, flowers):
    x, y, query = flowers
    model = checkpoint(tmp_path, MLP(4, 8, 3), nn.CrossEntropyLoss(), Accuracy())
    loaded = MetaLearner.load_from_checkpoint(tmp_path / "model.ckpt").eval()
    assert torch.equal(answers(loaded, x, y, query), answers(model, x, y, query))

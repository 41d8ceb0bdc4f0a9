"""One data config, every learner in `model.learner`: fit, resume, test and predict."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from metalit.main import main

MLP = {"class_path": "MLP", "init_args": {"in_features": 64, "hidden": 8, "out_features": 3}}
MAML = {
    "class_path": "MAML",
    "init_args": {
        "network": MLP,
        "inner_loop": {"class_path": "GradientDescent", "init_args": {"lr": 0.1}},
        "inner_loss": "torch.nn.CrossEntropyLoss",
    },
}
PROTOTYPES = {"class_path": "Prototypes", "init_args": {"network": MLP}}
TREE = {
    "class_path": "SklearnClassifier",
    "init_args": {"estimator": "sklearn.tree.DecisionTreeClassifier"},
}
NESTED = {
    "class_path": "SupervisedMetaLearner",
    "init_args": {
        "learners": {"maml": MAML, "tree": TREE, "prototypes": PROTOTYPES},
        "combination": {"class_path": "Stacking", "init_args": {"folds": 2}},
    },
}
PSEUDO_LABELS = {"n_clusters": 3, "rounds": 0, "folds": 2, "temperature": 1.0}
BAYES = {
    "class_path": "SklearnClassifier",
    "init_args": {"estimator": "sklearn.naive_bayes.GaussianNB"},
}
UNSUPERVISED = {
    "class_path": "UnsupervisedMetaLearner",
    "init_args": {"learner": BAYES, **PSEUDO_LABELS},
}
AROUND = {
    "class_path": "UnsupervisedMetaLearner",
    "init_args": {"learner": NESTED, **PSEUDO_LABELS},
}
WITH_LABELS = {"MAML": MAML, "Prototypes": PROTOTYPES, "SupervisedMetaLearner": NESTED}
WITHOUT = {"UnsupervisedMetaLearner": UNSUPERVISED, "one around a super learner": AROUND}
LEARNERS = {**WITH_LABELS, **WITHOUT}


@pytest.fixture
def config(tmp_path):
    """Write the config of a learner; the data are the same for all."""

    def write(learner, folder):
        blind = learner in WITHOUT.values()
        text = {
            "model": {
                "class_path": "MetaLearner",
                "init_args": {
                    "learner": learner,
                    # clusters have numbers of their own
                    "loss": "MatchedCrossEntropy" if blind else "torch.nn.CrossEntropyLoss",
                    "metric": "MatchedAccuracy" if blind else "Accuracy",
                },
            },
            "data": {
                "class_path": "EpisodeDataModule",
                "init_args": {
                    "dataset": "Digits",
                    "tasks": {
                        "class_path": "LabelTasks",
                        "init_args": {"way": 3, "shot": 3, "query_shot": 2},
                    },
                    "meta_batch_size": 2,
                    "episodes_per_epoch": 4,
                    "val_episodes": 2,
                    "test_episodes": 2,
                },
            },
            "trainer": {
                "accelerator": "cpu",
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "log_every_n_steps": 1,
                "num_sanity_val_steps": 0,
                "default_root_dir": str(tmp_path / folder),
            },
            "checkpoint": {"monitor": "val/matched_accuracy" if blind else "val/accuracy"},
        }
        file = tmp_path / f"{folder}.yaml"
        file.write_text(yaml.safe_dump(text))
        return ["--config", str(file)]

    return write


def weights(folder):
    (file,) = folder.rglob("last.ckpt")
    return torch.load(file, weights_only=True)["state_dict"]


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_is_fitted_resumed_tested_and_asked(name, config, tmp_path):
    whole = config(LEARNERS[name], "whole")
    parts = config(LEARNERS[name], "parts")
    main(["fit", *whole, "--trainer.max_epochs", "2"])
    main(["fit", *parts, "--trainer.max_epochs", "1"])
    main(["fit", *parts, "--trainer.max_epochs", "2", "--ckpt_path", "last"])
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[key], other[key]) for key in one)

    tested = main(["test", *whole, "--ckpt_path", "best"])
    metric = "matched_accuracy" if name in WITHOUT else "accuracy"
    assert 0.2 < tested.trainer.callback_metrics[f"test/{metric}"] <= 1

    draw = np.random.default_rng(0)
    table = pd.DataFrame(draw.random((12, 64))).add_prefix("pixel_")
    labelled = table if name in WITHOUT else table.assign(label=list("abc") * 4)
    labelled.to_csv(tmp_path / "support.csv", index=False)
    table.to_csv(tmp_path / "query.csv", index=False)
    (best,) = (tmp_path / "whole").rglob("best.ckpt")
    answers = tmp_path / "answers.csv"
    files = [f"--data.{part}={tmp_path / part}.csv" for part in ("support", "query")]
    options = ["--trainer.accelerator", "cpu", f"--trainer.default_root_dir={tmp_path / 'asked'}"]
    options += ["--data", "SupportQuery", *files, "--predictions.file", str(answers)]
    main(["predict", "--ckpt_path", str(best), *options])
    predictions = pd.read_csv(answers)
    classes = [0, 1, 2] if name in WITHOUT else ["a", "b", "c"]
    assert set(predictions["prediction"]) <= set(classes)
    shares = predictions[[f"probability_{label}" for label in classes]]
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)


def test_training_reaches_the_gate_and_the_learners_inside_a_super_learner(config, tmp_path):
    main(["fit", *config(NESTED, "run"), "--trainer.max_epochs", "1"])
    first = main(["fit", *config(NESTED, "start"), "--trainer.max_steps", "0"]).model.state_dict()
    last = weights(tmp_path / "run")
    for part in ("gate.bias", "maml.network", "prototypes.network"):
        names = [name for name in last if part in name]
        assert names
        assert any(not torch.equal(first[name], last[name]) for name in names), part

"""What learns from unlabelled tables, through the command line where no config alone shows it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metalit.main import main

CONFIGS = Path(__file__).parents[1] / "configs"
QUICK = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
QUICK += ["--trainer.num_sanity_val_steps=0", "--trainer.log_every_n_steps=1"]
SHORT = ["--trainer.max_epochs=1", "--trainer.accumulate_grad_batches=2"]
SHORT += ["--data.init_args.episodes_per_epoch=4", "--data.init_args.val_episodes=2"]


def run(command, name, folder, *options):
    options = [*QUICK, f"--trainer.default_root_dir={folder / 'runs'}", *options]
    return main([command, "--config", str(CONFIGS / f"{name}.yaml"), *options])


def tasks(option, class_path, **arguments):
    value = {"class_path": class_path, "init_args": arguments}
    return f"--data.init_args.{option}={json.dumps(value)}"


def weights(folder):
    (file,) = folder.rglob("last.ckpt")
    return torch.load(file, weights_only=True)["state_dict"]


def test_a_detector_learns_from_classes_left_out_of_real_tables_and_scores_a_table(tmp_path):
    given = tasks("tasks", "ClassOutTasks", datasets=["Digits"], rows=80, n_query=30)
    small = tasks("val_tasks", "AnomalyTasks", n_query=30)
    fitted = run("fit", "detector", tmp_path, *SHORT, given, small)
    assert fitted.trainer.global_step == 2
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(40, 3)), columns=list("abc"))
    table.to_csv(tmp_path / "known.csv", index=False)
    table.iloc[0] = 30.0
    table.to_csv(tmp_path / "asked.csv", index=False)
    options = ["--data", "SupportQuery", f"--data.support={tmp_path / 'known.csv'}"]
    options += [f"--data.query={tmp_path / 'asked.csv'}", "--trainer.accelerator=cpu"]
    options += [f"--trainer.default_root_dir={tmp_path / 'asked'}", *QUICK[:2]]
    answers = tmp_path / "answers.csv"
    (best,) = tmp_path.rglob("best.ckpt")
    main(["predict", "--ckpt_path", str(best), *options, "--predictions.file", str(answers)])
    scores = pd.read_csv(answers).select_dtypes("number").iloc[:, -1]
    assert scores.argmax() == 0


def test_which_rows_belong_together_is_learned_from_cuts_of_a_labelled_table(tmp_path):
    given = tasks("tasks", "TableCuts", datasets=["Digits"], n_support=[60, 80], clusters=[2, 3])
    fitted = run("fit", "similarity", tmp_path, *SHORT, given, "--data.init_args.val_tasks=null")
    assert fitted.trainer.global_step == 2
    assert 0 <= float(fitted.trainer.callback_metrics["val/pair_auroc"]) <= 1


def test_the_shipped_clusterer_is_tested_with_pictures_and_its_control(tmp_path):
    table = {"n_support": [60, 80], "clusters": [2, 3], "planar": 1.0}
    options = [tasks("tasks", "TableTasks", **table), "--data.init_args.test_episodes=2"]
    tested = run("test", "clusterer", tmp_path, *options)
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "figures" / "clusterings.png").is_file()
    found = json.loads((folder / "reliability.json").read_text())
    assert found["meta-trained"]["cases"] == found["untrained"]["cases"] == 2
    assert found["meta-trained"]["confidence"] != found["untrained"]["confidence"]
    assert 0 < float(tested.trainer.callback_metrics["test/adjusted_rand"]) <= 1

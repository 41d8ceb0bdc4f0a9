"""Wrong values that users hit, by hand: each ends in one line with the reason, and exit code 2."""

import numpy as np
import pytest
import torch

ARRAYS = "--data.dataset {class_path: Arrays, init_args: {path: "
IMAGES = "--data.dataset {class_path: ImageFolder, init_args: {image_size: 8, root: "
STEPS = "torch.optim.lr_scheduler.StepLR"
CASES = {
    "a folder for a config": ("--config tables", "tables"),
    "a checkpoint for a config": ("--config other.ckpt", "is no text"),
    "a table for a config": (
        "--config text.csv",
        "sections such as model, data and trainer are needed",
    ),
    "a tab in YAML": (
        "--config tab.yaml",
        "the configuration is no YAML (while scanning for the next token",
    ),
    "a list in YAML": ("--config list.yaml", "sections such as model, data and trainer are needed"),
    "two documents in YAML": (
        "--config two.yaml",
        "the configuration is no YAML (expected a single document",
    ),
    "class_path misspelt": (
        "--config class.yaml",
        "data.clas_path is no option: did you mean class_path?",
    ),
    "a number for a section": (
        "--config number.yaml",
        "model is 3, which is no class that fits there",
    ),
    "callback in a list": ("--config list_of_classes.yaml", "RunSummary"),
    "callback": ("--trainer.callbacks AdaptionReport", "did you mean AdaptationReport"),
    "logger": ("--trainer.logger CVS", "did you mean metalit.loggers.CSV"),
    "an object for a class": ("--trainer.callbacks 3", "trainer.callbacks is"),
    "section": ("--modl.seed 3", "--modl.seed is no option: did you mean model.seed?"),
    "section of a file": ("--trainr.devices 3", "did you mean trainer.devices?"),
    "option of a section": ("--checkpoint.monitr x", "did you mean monitor?"),
    "empty value": ("--data.tasks ", "data.tasks is '', which is no class that fits there"),
    "text columns": (f"{ARRAYS}text.csv}}}}", "column 'a' of text.csv holds 'red'"),
    "empty table": (f"{ARRAYS}empty.csv}}}}", "empty.csv cannot be read as a table"),
    "table of names": (f"{ARRAYS}names.csv}}}}", "names.csv holds 0 examples"),
    "table without names": (
        f"{ARRAYS}numbers.csv}}}}",
        "the first line of numbers.csv is all numbers",
    ),
    "table of one row": (f"{ARRAYS}one.csv}}}}", "1 rows cannot be split"),
    "ragged table": (f"{ARRAYS}ragged.csv}}}}", "ragged.csv cannot be read as a table"),
    "fractions as labels": (
        f"{ARRAYS}fractions.csv}}}}",
        "the labels of fractions.csv are fractions",
    ),
    "one label": (
        f"--config digits.yaml {ARRAYS}same.csv, by: row}}}}",
        "the data have 1 classes but way = 5",
    ),
    "label": (f"{ARRAYS}text.csv, label: kind}}}}", "text.csv has no column 'kind'"),
    "folder of tables": (
        f"{ARRAYS}tables}}}}",
        "tables holds no train.npz, .npy, .csv or .parquet",
    ),
    "variable in a path": (f"{ARRAYS}$NOWHERE/a.csv}}}}", "$NOWHERE/a.csv does not exist"),
    "suffix": (f"{ARRAYS}note.txt}}}}", "note.txt has an unknown suffix"),
    "array of another name": (
        f"{ARRAYS}other.npz}}}}",
        "other.npz holds the arrays ['z'] but not x, X or images",
    ),
    "array of labels": (f"{ARRAYS}x.npz, label: kind}}}}", "not label='kind'"),
    "pickled array": (f"{ARRAYS}objects.npy}}}}", "objects.npy cannot be read"),
    "no images": (f"{IMAGES}no_images, image_size: 8}}}}", "no_images holds no image"),
    "bad image": (f"{IMAGES}bad_images, image_size: 8}}}}", "a.png cannot be read as an image"),
    "no folder of images": (f"{IMAGES}absent, image_size: 8}}}}", "absent is not a folder"),
    "channels": (
        f"{IMAGES}absent, image_size: 8, channels: 2}}}}",
        "data.dataset.channels is '2' but one of [1, 3] is needed",
    ),
    "split": (
        f"{ARRAYS}x.npz, fractions: [0.5, 0.1, 0.1]}}}}",
        "fractions=[0.5, 0.1, 0.1] should be the shares",
    ),
    "no data for tasks": (
        "--data.tasks {class_path: LabelTasks, init_args: {way: 2}}",
        "LabelTasks has no data",
    ),
    "gpu": (
        "--trainer.accelerator gpu",
        "trainer.accelerator asks for a GPU but torch finds none here",
    ),
    "cuda": ("--trainer.accelerator cuda", "trainer.accelerator: "),
    "no devices": ("--trainer.devices 0", "trainer.devices: "),
    "precision": ("--trainer.precision 64-tru", "trainer.precision"),
    "fsdp": ("--trainer.strategy fsdp", "trainer."),
    "deepspeed": ("--trainer.strategy deepspeed", "trainer.strategy is deepspeed but"),
    "strategy": ("--trainer.strategy dpp", "trainer.strategy"),
    "epochs": ("--trainer.max_epochs -3", "trainer.max_epochs: "),
    "time": ("--trainer.max_time soon", "trainer.max_time: "),
    "clipping": (
        "--trainer.gradient_clip_val 1 --trainer.gradient_clip_algorithm mean",
        "trainer.gradient_clip_algorithm",
    ),
    "part of an epoch": ("--trainer.limit_train_batches -1", "trainer.limit_train_batches: "),
    "validation": ("--trainer.val_check_interval 99", "trainer.val_check_interval: "),
    "root": ("--trainer.default_root_dir one.csv", "one.csv"),
    "checkpoint mode": ("--checkpoint.mode smallest", "checkpoint.mode: "),
    "checkpoints": ("--checkpoint.save_top_k -2", "checkpoint.save_top_k: "),
    "seed": ("--seed_everything 1099511627776", "seed_everything: "),
    "optimizer lr": ("--model.optimizer.lr fast", "model.optimizer.lr is 'fast' but float"),
    "negative lr": ("--model.optimizer.lr -1", "model.optimizer: Invalid learning rate: -1.0"),
    "optimizer": ("--model.optimizer torch.optim.Adamm", "torch.optim.Adam"),
    "no optimizer": ("--model.optimizer sklearn.svm.SVC", "model.optimizer"),
    "schedule": (
        f"--model.lr_scheduler {STEPS}",
        "model.lr_scheduler lacks step_size: give StepLR",
    ),
    "a schedule that waits for a score": (
        "--model.lr_scheduler torch.optim.lr_scheduler.ReduceLROnPlateau",
        "model.lr_scheduler is ReduceLROnPlateau, which waits for a score",
    ),
    "schedule of zero": (
        f"--model.lr_scheduler {{class_path: {STEPS}, init_args: {{step_size: 0}}}}",
        "model.lr_scheduler: ",
    ),
    "workers": ("--data.num_workers -1", "num_workers"),
    "no meta-batch": ("--data.meta_batch_size 0", "meta_batch_size=0 cannot be split"),
    "no episodes": ("--data.val_episodes 0", "episodes=0"),
    "inner loop of NaN": ("--model.learner.inner_loop.lr .nan", "lr=nan of the inner loop"),
    "union": (
        "--model.learner.network.hidden many",
        "model.learner.network.hidden is 'many' but int or list[int] is needed",
    ),
    "loss": ("--model.loss torch.nn.CTCLoss", "model.loss is CTCLoss, which cannot score"),
    "loss of classes": (
        "--model.loss torch.nn.NLLLoss",
        "model.loss is NLLLoss, which cannot score",
    ),
    "metric": ("--model.metric Accuracy", "model.metric is Accuracy, which cannot score"),
    "checkpoint of a list": ("--ckpt_path list.ckpt", "list.ckpt"),
    "no checkpoint file": ("--ckpt_path tables", "there is no checkpoint 'tables'"),
    "amplitude": ("--data.tasks.amplitude [2.0, 1.0]", "got amplitude=(2.0, 1.0)"),
    "memory": ("--data.tasks.shot 9000000000000", "there is not enough memory"),
}


def write_files(folder):
    """Files that are wrong in one way each."""
    texts = {
        "tab.yaml": "model:\n\ta: 1\n",
        "list.yaml": "- model\n- data\n",
        "two.yaml": "model: {}\n---\ndata: {}\n",
        "class.yaml": "data: {clas_path: EpisodeDataModule}\n",
        "number.yaml": "model: 3\n",
        "list_of_classes.yaml": "trainer: {callbacks: [RunSummarry]}\n",
        "numbers.csv": "0.5,1.5\n1,2\n",
        "text.csv": "a,b\nred,1\nblue,2\n",
        "empty.csv": "",
        "names.csv": "a,b\n",
        "one.csv": "a,b\n1,2\n",
        "same.csv": "a,label\n" + "1,x\n" * 300,
        "fractions.csv": "a,label\n" + "1,0.5\n" * 300,
        "ragged.csv": "a,b\n1,2\n3,4,5\n",
        "note.txt": "a,b\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    for name in ("no_images", "bad_images", "tables"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "bad_images" / "a.png").write_bytes(b"no image")
    np.savez(folder / "other.npz", z=np.ones((9, 2)))
    np.savez(folder / "x.npz", x=np.ones((9, 2)))
    np.save(folder / "objects.npy", np.array([{}, {}], dtype=object))
    torch.save({"state_dict": {"a": torch.ones(2)}}, folder / "other.ckpt")
    torch.save([1], folder / "list.ckpt")


@pytest.fixture
def folder(sinusoids, digits, tmp_path, monkeypatch):
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_value_ends_with_one_line(case, folder, last_line):
    typed, expected = CASES[case]
    arguments = [word for part in typed.split("--")[1:] for word in _option(part)]
    base = ["fit", "--config", "sinusoids.yaml", "--trainer.default_root_dir", "runs"]
    said = last_line([*base, *arguments])
    assert expected in said
    assert "METALIT_DEBUG" not in said


def _option(part):
    """Split an option of the command line from its value, which may have spaces."""
    name, _, value = part.removesuffix(" ").partition(" ")
    return [f"--{name}", value]


def test_there_are_forty_cases():
    assert len(CASES) >= 40

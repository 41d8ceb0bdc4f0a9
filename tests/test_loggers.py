import os

import pytest
from lightning.pytorch.utilities import rank_zero_only

from metalit.loggers import CSV, WandB, logged_in
from metalit.main import main
from metalit.runs import read_rows


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))


def ids(folder):
    return [name.rpartition("-")[2] for name in os.listdir(folder / "wandb") if "run-2" in name]


def test_every_row_is_in_the_file_at_once_and_new_columns_are_added(tmp_path):
    logger = CSV(str(tmp_path))
    logger.log_metrics({"train/loss": 0.1, "epoch": 0}, step=0)
    assert (tmp_path / "metrics.csv").read_text().split() == ["epoch,step,train/loss", "0,0,0.1"]
    logger.log_metrics({"val/loss": 0.25, "epoch": 0}, step=0)
    CSV(str(tmp_path)).log_metrics({"train/loss": 1 / 3, "epoch": 1}, step=1)
    names, rows = read_rows(tmp_path / "metrics.csv")
    assert names == ["epoch", "step", "train/loss", "val/loss"]
    assert [tuple(row.values()) for row in rows] == [
        ("0", "0", "0.1", ""),
        ("0", "0", "", "0.25"),
        ("1", "1", repr(1 / 3), ""),
    ]


def test_the_values_of_a_test_go_to_a_file_of_their_own(tmp_path):
    logger = CSV(str(tmp_path))
    logger.write_to(tmp_path, "test")
    logger.log_metrics({"test/loss": 0.5, "epoch": 0}, step=0)
    assert (tmp_path / "test.csv").read_text().split() == ["test/loss", "0.5"]
    assert not (tmp_path / "metrics.csv").exists()


def test_wandb_is_offline_by_default_and_a_resumed_run_goes_on_under_its_id(
    sinusoids, tmp_path, offline, capfd
):
    arguments = ["fit", "--config", str(sinusoids), "--trainer.logger"]
    arguments += ["[metalit.loggers.CSV,metalit.loggers.WandB]", "--trainer.max_epochs"]
    main([*arguments, "1"])
    main([*arguments, "2", "--ckpt_path", "last"])
    found = ids(tmp_path / "runs" / "version_0")
    assert len(found) == 2
    assert len(set(found)) == 1
    assert len(list((tmp_path / "runs/version_0/wandb").glob("offline-run-*"))) == 2
    assert "wandb" not in capfd.readouterr().err.lower()


@pytest.mark.parametrize("project", ["a/b", "x" * 200])
def test_a_wandb_that_does_not_start_warns_once(project, tmp_path, offline):
    logger = WandB(project=project, save_dir=str(tmp_path))
    with pytest.warns(UserWarning, match="W&B stopped logging .*; the run goes on"):
        logger.log_metrics({"train/loss": 1.0}, 0)
    logger.log_metrics({"train/loss": 1.0}, 1)  # a second warning would be an error here
    logger.log_hyperparams({"a": 1})
    logger.finalize("success")


def test_training_goes_on_without_a_wandb_that_raises(sinusoids, offline, monkeypatch):
    def raises(**_):
        raise OSError("no space left on device\nand more")

    monkeypatch.setattr("wandb.init", raises)
    with pytest.warns(UserWarning, match=r"stopped logging \(no space left on device\)"):
        cli = main(["fit", "--config", str(sinusoids), "--trainer.logger", "metalit.loggers.WandB"])
    assert cli.trainer.global_step == 6


def test_a_wandb_run_that_ends_in_between_warns_once(tmp_path, offline):
    import wandb

    logger = WandB(save_dir=str(tmp_path))
    logger.log_metrics({"train/loss": 1.0}, 0)
    wandb.run.finish()
    with pytest.warns(UserWarning, match="W&B stopped logging"):
        logger.log_metrics({"train/loss": 1.0}, 1)
    logger.log_image("figure", ["missing.png"])
    logger.finalize("success")


def test_other_ranks_log_nothing(tmp_path, offline, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    for logger in (CSV(str(tmp_path)), WandB(save_dir=str(tmp_path))):
        logger.log_metrics({"train/loss": 1.0}, 0)
        logger.log_hyperparams({"a": 1})
        logger.finalize("success")
    assert os.listdir(tmp_path) == []


def test_a_login_is_found_in_the_environment_or_in_netrc(tmp_path, offline, monkeypatch):
    assert not logged_in()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert logged_in()

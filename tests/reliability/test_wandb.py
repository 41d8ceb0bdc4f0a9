"""W&B, the real one and one that misbehaves, beside a run that must not notice."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from metalit.loggers import WandB, message_pipe, wandb_run
from metalit.loggers.wandb_process import kill_children

ROOT = Path(__file__).parents[2]


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setattr(wandb_run, "ONLINE_SECONDS", 1.0)


@pytest.fixture
def fake(offline, monkeypatch, tmp_path):
    """Put a W&B in place of the real one; return what tells what it was told."""
    (tmp_path / "modules").mkdir()
    shutil.copy(Path(__file__).with_name("fake_wandb.py"), tmp_path / "modules" / "wandb.py")
    file = tmp_path / "told.jsonl"
    monkeypatch.setenv("FAKE_FILE", str(file))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    return lambda: [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def servers(offline, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "reliability"))
    module = importlib.import_module("wandb_server")
    monkeypatch.setenv("WANDB_API_KEY", module.KEY)

    def serve(answers):
        server = module.WandBServer(answers)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        return server

    return serve


def children(pid, what):
    files = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for file in files for child in file.read_text().split()]
    return [child for child in found if what in command(child)]


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return ""


def processes():
    """Ids of the processes that talk to W&B for this one, which may have others."""
    return children(os.getpid(), "wandb_process")


def cores():
    """Ids of the wandb-core processes below these."""
    return [core for process in processes() for core in children(process, "wandb-core")]


def wait_for(what, seconds=20):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def log_rows(logger, count, start=0):
    for step in range(start, start + count):
        logger.log_metrics({"train/loss": 1 / (step + 1)}, step)


def end_within(monkeypatch, seconds):
    for name in ("FINISH_SECONDS", "OPEN_AND_FINISH_SECONDS"):
        monkeypatch.setattr(wandb_run, name, seconds)


def finalize(logger):
    """Close a logger; return the messages of its warnings, and the seconds it took."""
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logger.finalize("success")
    assert processes() == []
    return [str(w.message) for w in caught], time.monotonic() - began


def sync(folder):
    run = [sys.executable, "-m", "wandb", "sync", "--include-online", str(folder)]
    subprocess.run(run, check=True, capture_output=True, timeout=60)


def rows_of(server):
    found = {row["trainer/global_step"]: row["train/loss"] for row in server.rows}
    assert len(found) == len(server.rows)
    return found


def expected(count):
    return {step: 1 / (step + 1) for step in range(count)}


def test_a_step_never_waits_for_a_wandb_that_hangs_and_the_end_only_for_a_while(
    fake, monkeypatch, tmp_path
):
    monkeypatch.setenv("FAKE_INIT", "time.sleep(60)")
    end_within(monkeypatch, 1.0)
    logger = WandB(save_dir=str(tmp_path))
    began = time.monotonic()
    log_rows(logger, 3000)  # several times what the pipe holds
    assert time.monotonic() - began < 1.0
    warned, seconds = finalize(logger)
    assert warned == ["W&B stopped logging (its process did not answer in time): the run goes on."]
    assert 1.0 <= seconds < 2.0
    log_rows(logger, 1)
    assert finalize(logger)[0] == []


def test_rows_arrive_in_order_whatever_waits(fake, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_INIT", "time.sleep(0.5)")
    logger = WandB(save_dir=str(tmp_path))
    logger.log_hyperparams({"a": {"b": [1, None]}})
    log_rows(logger, 5000)
    assert finalize(logger)[0] == []
    told = fake()
    assert [name for name, *_ in told] == ["init", "config", *5000 * ["log"], "finish", "teardown"]
    assert [row["trainer/global_step"] for _, row in told[2:-2]] == list(range(5000))
    assert told[1] == ["config", {"a": {"b": [1, None]}}]
    assert told[-2] == ["finish", 0]


def test_what_waits_in_memory_is_bounded(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(message_pipe, "MOST_BYTES", 100_000)
    end_within(monkeypatch, 0.1)
    logger = WandB(save_dir=str(tmp_path))
    logger.log_metrics({"hang": 1.0}, 0)
    with pytest.warns(UserWarning, match="taken nothing for"):
        log_rows(logger, 5000)
    log_rows(logger, 5000)  # a second warning would be an error here
    assert finalize(logger)[0] == []


def test_a_process_that_takes_nothing_for_long_is_given_up(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(message_pipe, "STALL", 0.2)
    end_within(monkeypatch, 0.1)
    logger = WandB(save_dir=str(tmp_path))
    log_rows(logger, 1)
    wait_for((tmp_path / "told.jsonl").exists)
    logger.log_metrics({"hang": 1.0}, 0)
    time.sleep(0.1)
    log_rows(logger, 3000)
    time.sleep(0.3)
    with pytest.warns(UserWarning, match=r"taken nothing for 0 s\)"):
        log_rows(logger, 1)
    assert finalize(logger)[0] == []


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_wandb_that_does_not_start_warns_once(mode, fake, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_INIT", "raise OSError('no space left\\nand more')")
    logger = WandB(mode=mode, save_dir=str(tmp_path))
    log_rows(logger, 3)
    warned, seconds = finalize(logger)
    assert warned == ["W&B stopped logging (no space left): the run goes on."]
    assert seconds < 5


def test_a_wandb_that_fails_in_between_warns_once_and_says_what_there_is(fake, tmp_path):
    logger = WandB(save_dir=str(tmp_path))
    logger.log_metrics({"raise": 1.0}, 0)
    wait_for(lambda: fake()[-1] == ["teardown"] if (tmp_path / "told.jsonl").exists() else False)
    with pytest.warns(
        UserWarning, match=r"\(no space left\).*`wandb sync --include-online /somewhere/run-1`"
    ):
        log_rows(logger, 1)
    log_rows(logger, 1)
    assert finalize(logger)[0] == []
    assert fake()[-2:] == [["finish", 1], ["teardown"]]


def test_a_server_that_refuses_the_run_leaves_it_offline(fake, monkeypatch, tmp_path):
    refuse = "if options['mode'] == 'online': raise ConnectionError('refused')"
    monkeypatch.setenv("FAKE_INIT", refuse)
    logger = WandB(mode="online", save_dir=str(tmp_path))
    log_rows(logger, 3)
    (warned,), _ = finalize(logger)
    assert "cannot be reached" in warned
    assert "`wandb sync /somewhere/run-1` sends it later" in warned
    assert sum(name == "log" for name, *_ in fake()) == 3


def test_a_run_that_is_killed_is_closed_as_failed_with_all_it_logged(fake, tmp_path):
    program = f"""
import os, signal
from metalit.loggers import WandB
logger = WandB(mode="offline", save_dir={str(tmp_path)!r})
for step in range(500):
    logger.log_metrics({{"train/loss": 1.0}}, step)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == -9
    wait_for(lambda: fake()[-1] == ["teardown"] if (tmp_path / "told.jsonl").exists() else False)
    assert fake()[-2:] == [["finish", 1], ["teardown"]]
    assert sum(name == "log" for name, *_ in fake()) == 500


def test_an_answer_that_comes_at_once_is_not_missed(fake, monkeypatch, tmp_path):
    logger = WandB(save_dir=str(tmp_path))
    log_rows(logger, 1)
    told = tmp_path / "told.jsonl"
    wait_for(told.exists)
    send = logger._pipe.send

    def send_and_wait(*message):
        send(*message)
        wait_for(lambda: "finish" in told.read_text())
        time.sleep(0.3)  # for the answer, and the end of the process

    monkeypatch.setattr(logger._pipe, "send", send_and_wait)
    assert finalize(logger)[0] == []


def test_signals_to_the_run_do_not_reach_the_process_of_wandb(fake, tmp_path):
    logger = WandB(save_dir=str(tmp_path))
    log_rows(logger, 1)
    wait_for((tmp_path / "told.jsonl").exists)
    (process,) = wait_for(processes)
    assert os.getsid(process) != os.getsid(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):  # as `scancel` may
        os.kill(process, number)
    log_rows(logger, 1, start=1)
    assert finalize(logger)[0] == []
    assert sum(name == "log" for name, *_ in fake()) == 2


def test_a_process_that_is_killed_warns_once(fake, tmp_path):
    logger = WandB(save_dir=str(tmp_path))
    log_rows(logger, 1)
    (process,) = wait_for(processes)
    os.kill(process, signal.SIGKILL)
    time.sleep(0.1)
    with pytest.warns(UserWarning, match=r"\(its process died\)"):
        log_rows(logger, 3)
    assert finalize(logger)[0] == []


def test_a_run_kept_offline_is_synced_whole(servers, monkeypatch, tmp_path):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    logger = WandB(mode="offline", save_dir=str(tmp_path))
    log_rows(logger, 200)
    assert finalize(logger)[0] == []
    assert os.listdir(tmp_path / "temporary") == []
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    with servers("all") as server:
        sync(folder)
    assert rows_of(server) == expected(200)
    assert set(server.names) == {logger.run_id}


def test_a_server_that_answers_has_the_run_at_once(servers, tmp_path):
    (tmp_path / "figure.png").write_bytes((ROOT / "docs" / "adaptation.png").read_bytes())
    with servers("all") as server:
        logger = WandB(save_dir=str(tmp_path))
        log_rows(logger, 50)
        logger.log_image("figure", [tmp_path / "figure.png"], 50)
        assert finalize(logger)[0] == []
    *rows, image = server.rows
    assert {row["trainer/global_step"]: row["train/loss"] for row in rows} == expected(50)
    assert image["figure"]["count"] == 1
    assert set(server.names) == {logger.run_id}


def test_a_silent_server_leaves_the_run_offline_to_be_synced_whole(servers, tmp_path):
    with servers("none") as server:
        logger = WandB(save_dir=str(tmp_path))
        log_rows(logger, 200)
        (warned,), seconds = finalize(logger)
    assert server.asked > 0
    assert seconds < 13
    assert "W&B cannot be reached" in warned
    (folder,) = (tmp_path / "wandb").glob("*run-*-*")  # the attempt to be online left none
    assert folder.name.startswith("offline-")
    with servers("all") as server:
        sync(folder)
    assert rows_of(server) == expected(200)
    assert set(server.names) == {logger.run_id}


def test_a_server_that_falls_silent_costs_a_while_at_the_end_and_no_rows(
    servers, monkeypatch, tmp_path
):
    end_within(monkeypatch, 4.0)
    with servers("until accepted") as server:
        logger = WandB(save_dir=str(tmp_path))
        log_rows(logger, 200)
        wait_for(lambda: server.names)
        (warned,), seconds = finalize(logger)
    assert "did not answer in time" in warned
    assert 4 <= seconds < 6
    (folder,) = (tmp_path / "wandb").glob("run-*")
    assert f"`wandb sync --include-online {folder}`" in warned
    with servers("all") as server:
        sync(folder)
    assert rows_of(server) == expected(200)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_core_that_is_killed_or_stopped_warns_once(number, offline, monkeypatch, tmp_path):
    end_within(monkeypatch, 4.0)
    logger = WandB(save_dir=str(tmp_path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        log_rows(logger, 10)
        (core,) = wait_for(cores)
        wait_for(lambda: list((tmp_path / "wandb").glob("offline-run-*/*.wandb")))
        os.kill(core, number)
        for step in range(20):
            log_rows(logger, 10, start=10 * step)
            time.sleep(0.02)
    warned, seconds = finalize(logger)
    assert len(caught) + len(warned) == 1
    assert seconds < 6
    status = Path(f"/proc/{core}/status")
    wait_for(lambda: not status.exists() or "State:\tZ" in status.read_text())


def test_a_thread_that_ends_meanwhile_keeps_no_child_alive(monkeypatch):
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, what: [path / "gone", *glob(path, what)])
    command = "sleep 60 & sleep 60 & echo begun; wait"
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE) as parent:
        parent.stdout.readline()
        kill_children(parent.pid)
        parent.wait(10)


def test_an_id_is_known_before_the_run_is_opened(fake, monkeypatch, tmp_path):
    logger = WandB(save_dir=str(tmp_path))
    run_id = logger.run_id
    assert len(run_id) == 8
    log_rows(logger, 1)
    finalize(logger)
    assert fake()[0][1]["id"] == run_id == logger.run_id
    assert WandB(save_dir=str(tmp_path)).run_id != run_id
    monkeypatch.setenv("WANDB_RUN_ID", "from_the_sweep")
    assert WandB(save_dir=str(tmp_path)).run_id == "from_the_sweep"
    (tmp_path / "wandb" / "offline-run-20260101_000000-held").mkdir(parents=True)
    assert WandB(save_dir=str(tmp_path)).run_id == "held"
    resumed = WandB(save_dir=str(tmp_path))
    resumed.resume(None)
    assert resumed.run_id == "held"
    resumed.resume("kept")
    assert resumed.run_id == "kept"
    assert WandB(mode="disabled").run_id is None
    log_rows(resumed, 1)
    with pytest.raises(RuntimeError, match="W&B run kept is open and cannot become other"):
        resumed.resume("other")
    resumed.finalize("failed")
    assert fake()[-4][1]["id"] == "kept"
    assert fake()[-2] == ["finish", 1]

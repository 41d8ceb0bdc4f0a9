"""Weights that ship inside the package: what is written is what is read."""

import hashlib
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch import nn

from metalit import MetaLearner, Samples
from metalit.estimators import _weights, load_similarity
from metalit.estimators._weights import load_learner, load_weights, save_weights
from metalit.hyperparameters import describe
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import Accuracy
from metalit.networks import MLP

ORIGIN = {"command": "python -m metalit fit", "commit": "abc", "seed": 0}


@pytest.fixture
def model():
    torch.manual_seed(0)
    learner = MAML(MLP(4, 8, 3), GradientDescent(0.1), nn.CrossEntropyLoss())
    return MetaLearner(learner, nn.CrossEntropyLoss(), Accuracy())


@pytest.fixture
def checkpoint(model, tmp_path):
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    return str(tmp_path / "last.ckpt")


def test_weights_come_back_as_they_were_with_what_they_were_made_of(model, checkpoint, tmp_path):
    save_weights("tiny", checkpoint, ORIGIN, torch.float32, tmp_path)
    state, description = load_weights("tiny", tmp_path)
    expected = model.learner.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    assert description == describe(model.learner)
    saved = torch.load(tmp_path / "tiny.pt", weights_only=True)
    assert saved["origin"] == ORIGIN


def test_half_precision_halves_the_file_and_is_read_as_single(model, checkpoint, tmp_path):
    save_weights("half", checkpoint, ORIGIN, folder=tmp_path)
    state, _ = load_weights("half", tmp_path)
    for key, value in model.learner.state_dict().items():
        assert state[key].dtype == torch.float32
        torch.testing.assert_close(state[key], value, atol=1e-6, rtol=1e-3)
        assert torch.equal(state[key], value.half().float())


def test_a_learner_is_built_again_and_answers_alike(model, checkpoint, tmp_path):
    save_weights("tiny", checkpoint, ORIGIN, torch.float32, tmp_path)
    learner = load_learner("tiny", tmp_path)
    assert not learner.training
    support = Samples(torch.randn(6, 4), torch.arange(3).repeat(2))
    query = torch.randn(5, 4)
    torch.testing.assert_close(learner(support, query), model.eval().learner(support, query))


def test_the_recorded_sums_are_those_that_sha256sum_checks(checkpoint, tmp_path):
    for name in ("b", "a"):
        save_weights(name, checkpoint, {**ORIGIN, "seed": ord(name)}, folder=tmp_path)
    save_weights("b", checkpoint, ORIGIN, folder=tmp_path)  # again: its line is replaced
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    digests = [hashlib.sha256((tmp_path / f"{n}.pt").read_bytes()).hexdigest() for n in "ab"]
    assert lines == [f"{digests[0]}  a.pt", f"{digests[1]}  b.pt"]


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint, tmp_path):
    first, second = (
        save_weights(name, checkpoint, ORIGIN, folder=tmp_path).read_bytes() for name in "ab"
    )
    assert first == second


def test_a_file_that_was_changed_is_refused(checkpoint, tmp_path):
    file = save_weights("tiny", checkpoint, ORIGIN, folder=tmp_path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"tiny\.pt has SHA-256 .* was recorded"):
        load_weights("tiny", tmp_path)


def test_weights_that_are_not_there_are_refused_with_those_that_are(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"no weights 'tiny' in .*: choose from none"):
        load_weights("tiny", tmp_path / "nowhere")
    save_weights("tiny", checkpoint, ORIGIN, folder=tmp_path)
    with pytest.raises(ValueError, match="choose from tiny"):
        load_weights("other", tmp_path)
    (tmp_path / "stray.pt").write_bytes(b"")  # has no recorded sum
    with pytest.raises(ValueError, match="no weights 'stray'"):
        load_weights("stray", tmp_path)


def test_a_checkpoint_that_cannot_ship_is_refused(checkpoint, tmp_path, monkeypatch):
    saved = torch.load(checkpoint, weights_only=True)
    key = "learner.network.head.weight"
    saved["state_dict"][key][0, 0] = 1e6  # more than float16 holds
    torch.save(saved, tmp_path / "large.ckpt")
    with pytest.raises(ValueError, match=r"head\.weight has values that are not finite as .*16"):
        save_weights("tiny", str(tmp_path / "large.ckpt"), ORIGIN, folder=tmp_path)
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="does not say how its learner was made"):
        save_weights("tiny", str(tmp_path / "other.ckpt"), ORIGIN, folder=tmp_path)
    monkeypatch.setattr(_weights, "LARGEST", 100)
    with pytest.raises(ValueError, match="at most 100 can ship"):
        save_weights("tiny", checkpoint, ORIGIN, folder=tmp_path)
    assert not (tmp_path / "tiny.pt").exists()


def test_every_file_that_ships_is_as_recorded():
    files = {file.stem for file in _weights.FOLDER.glob("*.pt")}
    recorded = (_weights.FOLDER / "SHA256SUMS").read_text().split()[1::2]
    assert {Path(name).stem for name in recorded} == files
    for name in files:
        assert load_learner(name)


def test_one_command_ships_the_checkpoints_of_several_runs(
    checkpoint, tmp_path, monkeypatch, capsys
):
    files = []
    for seed in (5, 6):
        run = tmp_path / f"version_{seed}"
        files.append(run / "checkpoints" / "best.ckpt")
        files[-1].parent.mkdir(parents=True)
        shutil.copy(checkpoint, files[-1])
        (run / "config.yaml").write_text(f"seed_everything: {seed}\n")
    script = Path(__file__).parents[2] / "benchmarks" / "ship.py"
    options = ["--name", "two", "--command", "fit", "--folder", str(tmp_path)]
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr("sys.argv", ["ship.py", *map(str, files), *options])
    runpy.run_path(str(script), run_name="__main__")
    assert "'seed': 6" in capsys.readouterr().out
    assert load_weights("two_1", tmp_path)[1]["class_path"] == "metalit.learners.maml.MAML"
    assert torch.load(tmp_path / "two_0.pt", weights_only=True)["origin"]["seed"] == 5


def test_the_similarity_that_ships_is_that_of_the_clusterer_and_nothing_else():
    state, _ = load_weights("clusterer")
    similarity = load_similarity()
    assert all(torch.equal(value, state[name]) for name, value in similarity.state_dict().items())
    with pytest.raises(ValueError, match="'detector' are those of AmortizedDetector but"):
        load_similarity("detector")

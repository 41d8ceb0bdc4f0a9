"""metalit: meta-learning on unlabelled data with PyTorch Lightning."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .data import EpisodeDataModule
    from .episodes import Episode, Samples
    from .meta_learner import MetaLearner

__all__ = ["Episode", "EpisodeDataModule", "MetaLearner", "Samples", "__version__"]
__version__ = "0.1.0"

_HOMES = {
    "Episode": "episodes",
    "EpisodeDataModule": "data",
    "MetaLearner": "meta_learner",
    "Samples": "episodes",
}


def __getattr__(name: str) -> object:
    """Import on first use, so that `python -m metalit --help` answers without torch."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)

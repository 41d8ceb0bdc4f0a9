"""Checks of the numbers that a user gives to an estimator."""

from numbers import Integral, Real


def check_whole(**given: object) -> None:
    """Raise a TypeError for an argument, by its name, that is no whole number."""
    for name, value in given.items():
        if not isinstance(value, Integral):
            raise TypeError(f"got {name}={value!r} but a whole number is needed: give one.")


def check_share(name: str, value: object, most: float) -> None:
    """Raise a ValueError for an argument that is not in (0, most]."""
    if not (isinstance(value, Real) and 0 < float(value) <= most):
        raise ValueError(f"{name}={value!r} is a share of rows: give one in (0, {most}].")

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]],
    ids=["ruff check", "ruff format", "mypy strict"],
)
def test_the_whole_tree_has_one_style_and_its_types_fit(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", sorted((ROOT / "metalit").rglob("*.py")), ids=lambda f: f.name)
def test_a_module_is_not_too_long_and_says_what_it_is_for(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert len(lines) <= 400
    assert '"""' in lines[0]

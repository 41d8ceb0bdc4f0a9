"""Every part of the package can be imported first, by itself."""

import pkgutil
import subprocess
import sys

import metalit


def test_every_part_can_be_imported_first():
    names = [
        module.name
        for module in pkgutil.iter_modules(metalit.__path__, "metalit.")
        if module.name != "metalit.__main__"
    ]
    assert "metalit.pseudo_labels" in names
    # one process: what one part has imported is taken away before the next
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    for loaded in [m for m in sys.modules if m.split('.')[0] == 'metalit']:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

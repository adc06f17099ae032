"""Runs code in a process in which torch, torchvision and scipy cannot be imported."""

import os
import subprocess
import sys

# As where they are not installed.
BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "scipy"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
"""


def without_torch(code, *arguments):
    """A finished process. arguments are its `sys.argv[1:]`."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        # The parent's path, so that the interpreter finds the same package.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )

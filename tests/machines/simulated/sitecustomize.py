"""Python imports this file at the start of every process with this folder on PYTHONPATH.

Worker processes are included.

SIMULATED names the modules of this folder that turn the process into one on another machine.
"""

import importlib
import os

for name in os.environ.get("SIMULATED", "").split():
    importlib.import_module(name)

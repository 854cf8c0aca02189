"""Python imports this file at the start of every process that has this
folder on PYTHONPATH, worker processes included.

SIMULATED names the modules of this folder that turn the process into one on another machine.
"""

import importlib
import os

for name in os.environ.get("SIMULATED", "").split():
    importlib.import_module(name)

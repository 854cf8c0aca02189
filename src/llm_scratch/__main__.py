"""Entry point of `python -m llm_scratch`, the same as the command `llm-scratch`."""

import sys

from llm_scratch.cli import main

sys.exit(main())

"""`python -m llm_scratch` is the command `llm-scratch`."""

import sys

from llm_scratch.cli import main

sys.exit(main())

"""A learner's own parts in the real model: checked for equality with the package's, then trained.

`parts.PARTS` lists what a file may define; `llm-scratch learn template` prints a template. A
part that is equal takes the place of the package's in the tables that a run is made from
(`use.parts_in_use`), so the run, its settings and its checkpoints are those of the preset.
Tests: tests/own_parts/. How to: docs/course_own_parts.md.
"""

"""The course: run lessons as scripts, grade exercises, explain terms.

Nothing here imports torch, so that an exercise is graded in well under a second.
Tests: tests/learn/, tests/lessons/.
"""

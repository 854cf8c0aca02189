"""Report about a training run: one HTML page from the files of its directory.

`contents` reads, `page` writes.
"""

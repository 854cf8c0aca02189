"""Weights from elsewhere: other people's files, read byte by byte, and their names mapped to ours."""

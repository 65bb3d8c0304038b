"""Rows in: datasets and their versions, sources, checks, and the bytes of artifacts."""

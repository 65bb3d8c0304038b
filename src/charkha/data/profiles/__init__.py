"""Profiles: a column summed up once, so that later rows are compared without the first ones."""

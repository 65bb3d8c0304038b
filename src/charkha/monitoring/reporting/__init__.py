"""A report on a version: one HTML file that needs nothing else."""

"""How values become bytes: one file for each format, found by name through `plugins`."""

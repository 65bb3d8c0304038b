"""The same verbs in a terminal: one module for each command, imported when it is run."""

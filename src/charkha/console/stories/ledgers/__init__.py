"""What was decided, read for stories: the port, and a reader for each kind of ledger."""

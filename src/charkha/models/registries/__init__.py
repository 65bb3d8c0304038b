"""Where model versions are looked up: the port, and a reader for each kind of tracking URI."""

"""How a model is asked over HTTP: the port, and an adapter for each protocol."""

"""Who is told of an alert: the port, and a file for each backend."""

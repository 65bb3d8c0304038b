"""Who moves the traffic: the port, and a file for each backend."""

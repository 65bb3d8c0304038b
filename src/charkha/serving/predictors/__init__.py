"""How a served version answers: the port, and an adapter for each form that a package has."""

"""Steps into a graph, cached by what each step depends on."""

"""When to learn again and whether to believe it: trigger, pipeline, gate, release."""

"""A version behind HTTP."""

"""Which flavour a model is of; one file per library beside this one."""

"""Stories: why something is as it is, as plain values, with the ids with which to go on."""

"""Is it still right: a window of predictions against the profile of what the model was trained on."""

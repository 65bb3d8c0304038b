"""A trained model as a version: packaged, judged, registered."""

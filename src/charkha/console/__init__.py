"""The same facts in a browser; its stories are told in a terminal too."""

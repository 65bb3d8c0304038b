"""Several processes that run as one: started again, given up, ended in order, with one log."""

"""The servers that are measured beside Charkha, and what is needed to run them."""

"""The worker process: the user's handlers, fed from a ring."""

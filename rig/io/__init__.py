"""The io process: the socket, the heartbeat, and the way of events to the workers and of pushes to the server."""

"""The memory of a controller in its state directory. When it is lost, history is lost, but never whose a domain is."""

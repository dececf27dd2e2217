"""What a controller remembers in its state directory. Losing it loses history, never whose a domain is."""

"""From the domains of a host, or from xl.cfg files, to specs."""

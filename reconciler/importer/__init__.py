"""Import turns the domains of a host, or xl.cfg files, into specs."""

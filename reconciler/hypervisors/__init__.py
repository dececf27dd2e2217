"""Hosts: what can be seen on them and done to them."""

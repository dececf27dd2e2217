"""Simulated hosts: each shows and does what a real one would, and is kept in a folder of the state directory."""

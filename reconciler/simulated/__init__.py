"""Simulated hosts: what a real one would show and do, kept in a folder under the state directory."""

"""Answers about a fleet, from what was observed: how each domain is, why, and which kernels it has."""

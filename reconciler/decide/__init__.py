"""Differences, and what may be done about them: the diff, and every rule of what may happen and when. Pure."""

"""Hosts whose toolstack is xl: observed by one script, changed step by step, each step confirmed by looking."""

"""Steps, their order, what they promise of memory, and the proof by replay. Pure."""

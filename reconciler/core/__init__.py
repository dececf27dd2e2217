"""The pure heart: values in, values out. No I/O, clock, randomness or logging."""

"""Commands that change hosts."""

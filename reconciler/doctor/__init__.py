"""Judging what on a dom0 will hurt: rows of checks, each with what it looks at, what it breaks and how to mend it."""

"""Rehearsals on a dom0: how disks can be snapshot there, what is made for one, and how that is taken down again."""

"""Following a plan: do each step and confirm it, wait for ready, go the way back; and record what was done."""

"""Following a plan: each step confirmed, the ready gate, the way back; and the record of what was done."""

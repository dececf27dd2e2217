"""What differs and what may be done about it: the diff, and every rule of what may happen and when. Pure."""

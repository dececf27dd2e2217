"""What xl reads and prints, as values. Pure: text in, values out, and back. Reaches nothing."""

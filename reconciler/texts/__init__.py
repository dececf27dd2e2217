"""The texts that xl reads and prints, as values: text in, values out, and back. Pure: reaches nothing."""

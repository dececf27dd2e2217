"""One module a subcommand: its options, and the route from them to what it prints. Loaded by `cli` on demand."""

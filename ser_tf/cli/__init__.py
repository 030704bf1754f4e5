"""The command line: arguments in, one room called, lines out."""

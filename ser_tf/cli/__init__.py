"""The command line: parses arguments, calls one package, prints the result."""

"""The command line: argparse and printing, nothing else. One module a group of commands, imported when needed."""

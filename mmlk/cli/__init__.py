"""What the command line tools share. Nothing else in the package imports from here."""

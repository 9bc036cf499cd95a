"""What the commands of the command line share, and those that set an installation up."""

"""What the process and the machine bring: memory, signals, versions, optional packages."""

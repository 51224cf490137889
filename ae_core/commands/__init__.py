"""The command line of both twins, and what its commands share."""

"""Whether a machine and an installation are fit for the daemon, and what to do where they are not."""

"""`make demo`: one story about a container that outlives its daemon, told through `sctr`."""

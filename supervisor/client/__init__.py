"""The SDK: a typed asyncio client of containerd's API, for programs that run containers."""

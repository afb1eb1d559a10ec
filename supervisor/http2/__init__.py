"""gRPC as a server speaks it: calls over HTTP/2 on unix sockets, on asyncio."""

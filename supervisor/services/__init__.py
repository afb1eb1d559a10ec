"""containerd's gRPC services, one module each: read the request, call, convert the answer."""

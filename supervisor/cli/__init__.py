"""`sctr`, the admin's command line; it talks to a daemon through the SDK and in no other way."""

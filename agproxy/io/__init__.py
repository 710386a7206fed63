"""The only code that touches the world: sockets, TLS, files, clocks. What an auditor reads first."""

"""The only code that touches the world: sockets, TLS, files, clocks. What an auditor reads first.

Towards clients: `server`, with `heads` for what it refuses to read. Towards upstream: `client`, which gets its
connections from `dial`, through a `proxy` where one is wanted. Both undo content codings by `coding`.
"""

"""agproxy: a gateway that speaks OpenAI's API to its clients and Gemini to its upstream.

The map, from values to the world; a module imports only from the rows above its own:

    errors, jsontext, conversation, sse, http11     values and rules, no I/O
    config, routes, auth, models, pool              decisions, pure
    frontends/*, backends/*                         one codec a protocol, pure
    simulator/*                                     a Gemini of its own, for offline use and tests
    gateway                                         one exchange, the only orchestration
    io/*                                            sockets, files, logs: the only code that touches the world
    cli                                             wires the parts together
"""

__version__ = "0.1.0"

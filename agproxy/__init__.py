"""agproxy: a gateway that speaks OpenAI's API to its clients and Gemini to its upstream.

The map, from values to the world; a module imports only from the rows above its own, and from its own row never in a
circle (`tests/test_layers.py` holds this):

    errors, jsontext, values, conversation, sse, http11,
      records, masking, documents                   values and rules, no I/O
    config, routes, auth, browser, models, pacific,
      cooldowns, credentials, account, sessions,
      traits, pool, accounts, oauth, signatures,
      trace, recording, entries, tally, metrics,
      keys, quotas, clients, blockyaml, merging,
      setup, openapi                                decisions, pure
    frontends/*, backends/*                         one codec a protocol, pure
    simulator/*                                     a Gemini of its own, for offline use and tests
    aside, places, targets, answers, attempts, probing, exchange,
      ledger, media, catalog, resources, admin,     exchanges with upstream: the only orchestration
      gateway
    io/*                                            sockets, files, logs: the only code that touches the world
    egress, scrape, embed                           wires the parts together, in whatever event loop is there
    cli/*                                           the command line

A program of your own runs it with `await agproxy.serve(config)`: see `agproxy.embed`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .embed import serve

__version__ = "0.1.0"
__all__ = ["__version__", "serve"]


def __getattr__(name: str) -> Any:
    """`serve`, loaded when it is first asked for, so that `import agproxy` alone stays light."""
    if name == "serve":
        from .embed import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Other gateways, as their users run them, in front of the same fake Gemini. Each is measured where its program is
found in PATH, or where it is named (--peer litellm=/some/venv/bin/litellm):

    pip install 'llm-rosetta[gateway]'
    pip install 'litellm[proxy]'
    npm install @portkey-ai/gateway        its program is node_modules/@portkey-ai/gateway/build/start-server.js
    apt install nginx

 Client keys are off in all of them but ours. nginx only passes
bytes on: it shows what the machine could do.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from load import request


@dataclass
class Peer:
    """How a gateway is started for an upstream's port on a port of its own, and what it is asked. least: the bar, how
    many times as many requests a second agproxy carries."""

    program: str
    command: Callable[[str, Path, int, int], list[str]]
    least: float | None
    data: Callable[[int], bytes] = lambda upstream: request("gemini-short")


def _rosetta(program: str, home: Path, port: int, upstream: int) -> list[str]:
    config = home / "rosetta.jsonc"
    provider = {"api_key": "k", "base_url": f"http://127.0.0.1:{upstream}"}
    server = {"host": "127.0.0.1", "port": port, "open_on_no_keys": True}
    config.write_text(
        json.dumps({"providers": {"google": provider}, "models": {"gemini-short": "google"}, "server": server})
    )
    return [
        program,
        "--config",
        str(config),
        "--no-banner",
        "--log-level",
        "error",
        "--data-dir",
        str(home / "rosetta"),
    ]


def _litellm(program: str, home: Path, port: int, upstream: int) -> list[str]:
    config = home / "litellm.yaml"
    how = {"model": "gemini/gemini-short", "api_key": "k", "api_base": f"http://127.0.0.1:{upstream}"}
    config.write_text(json.dumps({"model_list": [{"model_name": "gemini-short", "litellm_params": how}]}))
    return [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]


def _portkey(program: str, home: Path, port: int, upstream: int) -> list[str]:
    if program.endswith(".js"):
        return [shutil.which("node") or "node", program, f"--port={port}", "--headless"]
    return [program, f"--port={port}", "--headless"]


def _portkey_data(upstream: int) -> bytes:
    host = f"http://127.0.0.1:{upstream}/v1beta"
    head = f"x-portkey-provider: google\r\nx-portkey-custom-host: {host}\r\n".encode()
    return request("gemini-short").replace(b"Connection: keep-alive\r\n", b"Connection: keep-alive\r\n" + head)


def _nginx(program: str, home: Path, port: int, upstream: int) -> list[str]:
    config = home / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes 1; pid {home}/nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  keepalive_requests 10000000;
  upstream gemini {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://gemini/v1beta/models/gemini-short:generateContent; proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}"""
    )
    return [program, "-c", str(config), "-p", str(home)]


PEERS = {
    "llm-rosetta": Peer("llm-rosetta-gateway", _rosetta, 4),
    "portkey": Peer("portkey-gateway", _portkey, 4, _portkey_data),
    "litellm": Peer("litellm", _litellm, 30),
    "nginx": Peer("nginx", _nginx, None),
}


def find(name: str, given: dict[str, str]) -> str | None:
    """The program of a peer."""
    return given.get(name) or shutil.which(PEERS[name].program) or shutil.which(PEERS[name].program, path="/usr/sbin")


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | {
        "HOME": str(home),
        "GOOGLE_API_KEY": "k",
        "NODE_ENV": "production",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }

"""A small Hub on this machine, which the real clients talk to: models, data sets and Spaces.

It speaks as much of the Hub's protocol as huggingface_hub, transformers, peft and datasets use here,
so that what is tested is the client as it is installed. Nothing of it knows QA LoRA.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from threading import Thread

from tests.loopback_hub.hub import READ_ONLY_TOKEN, TOKEN, USER, Hub
from tests.loopback_hub.repo import Repo
from tests.loopback_hub.server import Handler

__all__ = ["READ_ONLY_TOKEN", "TOKEN", "USER", "Hub", "Repo", "loopback_hub", "running_hub"]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A Hub with nothing in it, which answers until the block is left."""
    hub = Hub()
    handler = type("Here", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.let_go()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def loopback_hub(
    repos: dict[str, dict[str, bytes]], private: set[str]
) -> Iterator[tuple[str, list[str]]]:
    """Serve data sets; gives the address, and the list of what is asked for."""
    with running_hub() as hub:
        for name, files in repos.items():
            hub.add("dataset", name, files, private=name in private)
        yield hub.address, hub.seen

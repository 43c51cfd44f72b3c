"""The app's entry, on a laptop and on a Space: ``python app.py``."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

DEFAULT_ADDRESS = "127.0.0.1"
DEFAULT_PORT = 7860


def main() -> int:
    """Build the app, serve it until it is interrupted.

    Returns:
        The exit code: 0 after an interrupt, 2 if it cannot listen where it was told to.
    """
    # Before gradio is imported: otherwise it starts a thread that calls home.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    address = os.environ.get("GRADIO_SERVER_NAME") or DEFAULT_ADDRESS
    port_text = os.environ.get("GRADIO_SERVER_PORT") or str(DEFAULT_PORT)
    if not port_text.isascii() or not port_text.isdigit() or not 0 < int(port_text) < 65_536:
        return _refuse(f"GRADIO_SERVER_PORT is {port_text!r}; it must be a number from 1 to 65535.")
    port = int(port_text)

    from qa_lora import zero_gpu
    from qa_lora.errors import ConfigError
    from qa_lora.runs import default_runs_dir
    from qa_lora.serving import ServerSettings, is_loopback
    from qa_lora.threads import wait_politely

    try:
        serving = ServerSettings.from_environment(address=address)
    except ConfigError as error:
        return _refuse(str(error))
    temporary = _protect() if serving.public else None
    from qa_lora.ui.build import build_app, launch_options
    from qa_lora.ui.engine import Engine

    wait_politely()
    try:
        zero_gpu.set_up()
    except ConfigError as error:
        return _refuse(str(error))
    # Who says that the app is not public has thought about who can connect, by whatever name.
    only_local = (
        is_loopback(address) and not serving.public and not os.environ.get("QA_LORA_PUBLIC")
    )
    engine = Engine(default_runs_dir(), serving)
    demo = build_app(engine.runs_dir, engine)
    try:
        demo.launch(
            server_name=address,
            server_port=port,
            prevent_thread_lock=True,
            **launch_options(serving, only_local),
        )
    except OSError:
        return _refuse(
            f"The app cannot listen on {address}:{port}: the port is taken or not allowed. "
            "Choose another one, such as GRADIO_SERVER_PORT=7861."
        )
    sys.stdout.write(f"QA LoRA is at http://{address}:{port} (Ctrl-C ends it; runs go on).\n")
    if not serving.space_id and serving.login == "none" and not is_loopback(address):
        sys.stdout.write(
            f"Warning: whoever can connect to {address}:{port} can use it, without a login. "
            "See docs/serving.md for QA_LORA_LOGIN and QA_LORA_PUBLIC.\n"
        )
    sys.stdout.flush()
    # Late enough not to hold up the first page, early enough for the first click.
    warm = threading.Timer(2.0, engine.warm_up)
    warm.daemon = True
    warm.start()
    if serving.public:
        from qa_lora.ui.guard import Guard

        Guard(engine, temporary).start()
    demo.block_thread()
    return 0


def _protect() -> Path | None:
    """What must stand before any library is imported, where strangers are at the other end.

    Returns:
        The folder that was made for uploads; None where the environment names one.
    """
    # A visitor who names a repository must not read it with the server's own token.
    os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    if os.environ.get("GRADIO_TEMP_DIR"):
        return None
    # A folder of this server's own for uploads, so that old ones can be swept.
    folder = tempfile.mkdtemp(prefix="qa-lora-files-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = folder
    return Path(folder)


def _refuse(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # how it ends; gradio only waits for it from when all is set up
        sys.exit(0)

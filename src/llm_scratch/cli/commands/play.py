"""`play`: a page on which to see inside a model. Tests: tests/cli/test_play.py."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from llm_scratch.cli.desktop import has_desktop, is_wanted
from llm_scratch.cli.flags import Flag, ReportCommand, option
from llm_scratch.cli.folders import check_can_write, resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console
from llm_scratch.run_directory import run_of

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Play(ReportCommand):
    """Open the playground: a page that shows what happens inside the model in RUN.

    Type a text, see what each token, head and layer does, switch a part off.

    The page is served to this machine only. Ctrl-C ends the server.

    examples:
      llm-scratch play quickstart
      llm-scratch play runs/a --compare runs/b
      llm-scratch play quickstart --export page/
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run, a preset (its newest run), gpt2, hf:org/name,
    or a checkpoint file or folder (docs/weights.md)
    """
    compare: Annotated[str, option("RUN")] = ""
    """another model with the same tokenizer, to see both side by side"""
    host: Annotated[str, option("ADDRESS")] = "127.0.0.1"
    """the address to listen on; it must be a loopback address"""
    port: int = 8765
    """the port to listen on; 0: any free port"""
    export: Annotated[str, option("FOLDER")] = ""
    """write the page with its first text into a folder that opens
    without a server, instead of serving it
    """
    no_browser: Flag = False
    """do not open the page in a browser"""
    offer: Flag = False
    """on a terminal with a desktop, ask before starting; elsewhere do nothing"""

    def run(self) -> None:
        """Load the model, print the address and serve until Ctrl-C; or write the folder."""
        if self.offer and not is_wanted("Open the playground in a browser now?"):
            return
        path = resolve_model_path(self.run_)
        paths: dict[str, str | Path] = {path.name or str(path): path}
        if self.compare:
            other = resolve_model_path(self.compare)
            paths[other.name if other.name not in paths else str(other)] = other
        if self.export:
            check_can_write(Path(self.export), "--export")
        from llm_scratch.serving.playground import open_playground
        from llm_scratch.serving.run_texts import loss_curve, opening_texts

        screen = console()
        with screen.status("loading the model …"):
            run = run_of(path)
            texts, curve = opening_texts(run), loss_curve(run)
            server = open_playground(
                paths, texts, curve, self.host, 0 if self.export else self.port
            )
        with server:
            if self.export:
                self._export(server, screen)
            else:
                self._serve(server, screen)

    def _export(self, server: Any, screen: Console) -> None:
        from llm_scratch.serving.static_export import export_playground

        page = export_playground(server, Path(self.export))
        if self.json:
            print_json({"url": None, "page": page})
            return
        screen.print(str(page), soft_wrap=True)

    def _serve(self, server: Any, screen: Console) -> None:
        if self.json:
            print_json({"url": server.url, "page": None})
        else:
            screen.print(f"{server.url}\nCtrl-C ends it.", soft_wrap=True, highlight=False)
        if has_desktop() and not self.no_browser and not self.json:
            webbrowser.open(server.url)
        with suppress(KeyboardInterrupt):  # the way to end it
            server.serve_forever()

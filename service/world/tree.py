"""Many futures of one prompt in one key-value sequence: the prompt is computed once, every future only adds to it.

`Engine` is the loaded model and is shared between threads. `Tree` is one request and belongs to one thread at a time.
A token takes layers x 2 x key-value heads x head size x 4 bytes: 4 KB in a model of 4 layers, 2 such heads, size 64.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

SLOT_LIMIT = 16_384
"""The most tokens one tree may hold unless told otherwise, prompt and all its futures together."""

VISIBLE, HIDDEN = np.float32(0), np.float32(-1e9)
"""What is added to an attention score; -inf would turn a row without a visible slot into NaN."""


class TreeFull(Exception):
    """The tree would pass its limit of slots, or one future the model's context. Nothing was added, nothing is lost."""


@dataclass(frozen=True, slots=True)
class Limits:
    """In tokens: of the prompt and one future together, and of the whole tree."""

    context: int
    slots: int


class Engine:
    """A graph written by `models.training.export`, ready to run; it runs with the interpreter lock released."""

    def __init__(self, path: Path, threads: int = 2, remembered_prompts: int = 8, slot_limit: int = SLOT_LIMIT) -> None:
        self._session = ort.InferenceSession(path, _options(threads), providers=["CPUExecutionProvider"])
        story = self._session.get_modelmeta().custom_metadata_map
        self._limits = Limits(context=int(story["context"]), slots=min(int(story["slots"]), slot_limit))
        self._recent = RecentPrompts(remembered_prompts)

    @property
    def vocabulary_size(self) -> int:
        return int(self._session.get_outputs()[0].shape[2])

    @property
    def context(self) -> int:
        """The most tokens that prompt and one future may have together."""
        return self._limits.context

    def tree(self, prompt: Sequence[int], room: int, tenant: str = "") -> "Tree":
        """`room` is how many tokens all futures may add before the tree must grow, at the price of a copy.

        Prompts are remembered for their tenant alone: how soon a tree stands tells nobody what another tenant asked.
        """
        ids = np.asarray(prompt, np.int64)
        if not ids.size:
            raise ValueError("a tree needs a prompt of at least one token")
        if ids.size > min(self._limits.context, self._limits.slots):
            raise TreeFull(f"the prompt has {ids.size} tokens; {self._limits}")
        slots = Slots(self._session, min(ids.size + max(room, 0), self._limits.slots))
        known = self._recent.longest_prefix(ids, tenant)
        tree = Tree(slots, ids, slots.load(known), self._limits)
        self._recent.remember(ids, slots, tenant)
        return tree


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # A spinning thread starves whoever shares the cores: 327 ms became 828 where this became 588.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class Tree:
    """One prompt and its branches, which share nothing but the prompt.

    What is computed beside a branch reaches it through the last bit of a sum alone; in int8 that can tip a rounding.
    """

    def __init__(self, slots: "Slots", prompt: Integers, known: int, limits: Limits) -> None:
        """The first `known` tokens of the prompt are already in `slots`, never the last."""
        self._slots, self._prompt_length, self._limits = slots, len(prompt), limits
        self.prompt_computed = len(prompt) - known
        self._branches: dict[int, list[int]] = {}
        self._bias = np.full((8, slots.capacity), HIDDEN, np.float32)  # a row a branch: the slots it sees
        self._born = 0
        self._used = len(prompt)
        bias = np.zeros((self.prompt_computed, len(prompt)), np.float32)
        last = np.array([self.prompt_computed - 1])
        self.prompt_logits: Floats = slots.run(prompt[known:], np.arange(known, len(prompt)), bias, last)[0]

    def branch(self) -> int:
        """A new future, standing at the end of the prompt."""
        if self._born == len(self._bias):
            self._bias = np.concatenate([self._bias, np.full_like(self._bias, HIDDEN)])
        name, self._born = self._born, self._born + 1
        self._bias[name, : self._prompt_length] = VISIBLE
        self._branches[name] = []
        return name

    def tokens(self, branch: int) -> tuple[int, ...]:
        """What this branch holds after the prompt."""
        return tuple(self._branches[branch])

    def drop(self, branch: int) -> None:
        """Its slots are used again when the tree next runs out of room."""
        del self._branches[branch]

    def extend(self, tokens: Mapping[int, Sequence[int]]) -> dict[int, Floats]:
        """One forward pass for all; what each branch expects after its last token. Raises `TreeFull`."""
        if not tokens:
            return {}
        lengths = [len(added) for added in tokens.values()]
        if 0 in lengths:
            raise ValueError("a branch is extended by at least one token")
        starts = [self._prompt_length + len(self._branches[branch]) for branch in tokens]
        self._check_context(starts, lengths)
        self._make_room(sum(lengths))
        owners = np.repeat(np.fromiter(tokens, np.int64, len(tokens)), lengths)
        ids = np.array([token for added in tokens.values() for token in added], np.int64)
        positions = np.concatenate([np.arange(at, at + length) for at, length in zip(starts, lengths, strict=True)])
        logits = self._slots.run(ids, positions, self._bias_of(owners), np.cumsum(lengths) - 1)
        self._commit(tokens, owners)
        return dict(zip(tokens, logits, strict=True))

    def _bias_of(self, owners: Integers) -> Floats:
        """[new tokens, slots]: a token sees what its branch saw and its branch's share of this pass, there causally."""
        bias = np.empty((len(owners), self._used + len(owners)), np.float32)
        bias[:, : self._used] = self._bias[owners, : self._used]
        bias[:, self._used :] = np.where(owners[:, None] == owners, VISIBLE, HIDDEN)
        return bias

    def _commit(self, tokens: Mapping[int, Sequence[int]], owners: Integers) -> None:
        self._bias[owners, np.arange(self._used, self._used + len(owners))] = VISIBLE
        self._used += len(owners)
        for branch, added in tokens.items():
            self._branches[branch].extend(added)

    def _check_context(self, starts: Iterable[int], lengths: Iterable[int]) -> None:
        longest = max(start + length for start, length in zip(starts, lengths, strict=True))
        if longest > self._limits.context:
            raise TreeFull(f"a future of {longest} tokens with its prompt; {self._limits}")

    def _make_room(self, more: int) -> None:
        """When the slots run out: forgets what dropped branches held, leaves as much room again as is now needed."""
        if self._used + more <= self._slots.capacity:
            return
        kept = self._live_slots()
        if len(kept) + more > self._limits.slots:
            raise TreeFull(f"{len(kept) + more} tokens in all; {self._limits}")
        capacity = min(max(self._slots.capacity, 2 * (len(kept) + more)), self._limits.slots)
        bias = np.full((len(self._bias), capacity), HIDDEN, np.float32)
        bias[:, : len(kept)] = self._bias[:, kept]
        self._slots, self._bias, self._used = self._slots.moved(kept, capacity), bias, len(kept)

    def _live_slots(self) -> Integers:
        visible = self._bias[list(self._branches), : self._used] == VISIBLE
        return np.union1d(np.arange(self._prompt_length), np.flatnonzero(visible.any(axis=0)))


class Slots:
    """The keys and values of every token, in buffers that the graph reads and appends to in place."""

    def __init__(self, session: ort.InferenceSession, capacity: int) -> None:
        self.capacity = capacity
        self._session, self._binding = session, session.io_binding()
        self._vocabulary_size: int = session.get_outputs()[0].shape[2]
        self._buffers: list[Floats] = []
        for past in (entry for entry in session.get_inputs() if entry.name.startswith("past.")):
            buffer = np.empty((1, past.shape[1], capacity + 1, past.shape[3]), np.float32)  # one more: see `run`
            value = ort.OrtValue.ortvalue_from_numpy(buffer)
            self._binding.bind_ortvalue_input(past.name, value)
            self._binding.bind_ortvalue_output(past.name.replace("past", "present"), value)
            self._buffers.append(buffer)

    def run(self, ids: Integers, positions: Integers, bias: Floats, rows: Integers) -> Floats:
        """Computes tokens and appends them; logits of `rows`. `bias` is [tokens, slots in use afterwards].

        A lone token goes in twice, and the next pass overwrites its echo: attention rounds a single row in another way,
        int8 magnifies that, and a branch should not depend on whether it has company.
        """
        if len(ids) == 1:
            ids, positions = np.repeat(ids, 2), np.repeat(positions, 2)
            bias = np.pad(bias, ((0, 1), (0, 1)))
        used = bias.shape[1]
        logits = np.empty((1, len(rows), self._vocabulary_size), np.float32)
        bind = self._binding.bind_cpu_input
        bind("input_ids", ids[None])
        bind("position_ids", positions[None])
        bind("attention_bias", bias[None, None])
        bind("logit_idx", rows)
        bind("seqlens_k", np.array([used - 1], np.int32))
        bind("total_len", np.array(used, np.int32))
        self._binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(logits))
        self._session.run_with_iobinding(self._binding)
        result: Floats = logits[0]
        return result

    def load(self, saved: Sequence[Floats]) -> int:
        """Fills the first slots; how many."""
        for buffer, old in zip(self._buffers, saved, strict=bool(saved)):
            buffer[:, :, : old.shape[2]] = old
        return saved[0].shape[2] if saved else 0

    def saved(self, length: int) -> list[Floats]:
        return [buffer[:, :, :length].copy() for buffer in self._buffers]

    def moved(self, kept: Integers, capacity: int) -> Self:
        """Keys carry their rotation with them, so a token may stand in any slot."""
        larger = type(self)(self._session, capacity)
        larger.load([buffer[:, :, kept] for buffer in self._buffers])
        return larger


class RecentPrompts:
    """The keys and values of the last few prompts, each its tenant's, the most recently used last; safe between threads."""

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self._kept: list[tuple[str, Integers, list[Floats]]] = []

    def longest_prefix(self, ids: Integers, tenant: str) -> list[Floats]:
        """Empty if nothing fits; never the whole prompt, for its last token must be computed to have logits."""
        with self._lock:
            lengths = [_common(known, ids[:-1]) if owner == tenant else 0 for owner, known, _ in self._kept]
            if not any(lengths):
                return []
            best = max(range(len(lengths)), key=lengths.__getitem__)
            self._kept.append(self._kept.pop(best))
            return [saved[:, :, : lengths[best]] for saved in self._kept[-1][2]]

    def remember(self, ids: Integers, slots: Slots, tenant: str) -> None:
        """A prompt that continues a known one takes its place; one that a known prompt already covers adds nothing."""
        if self._size == 0 or self._covers(ids, tenant):
            return
        saved = slots.saved(len(ids))
        with self._lock:
            self._kept = [entry for entry in self._kept if entry[0] != tenant or _common(entry[1], ids) < len(entry[1])]
            self._kept.append((tenant, ids, saved))
            del self._kept[: -self._size]

    def _covers(self, ids: Integers, tenant: str) -> bool:
        with self._lock:
            return any(owner == tenant and _common(known, ids) == len(ids) for owner, known, _ in self._kept)


def _common(a: Integers, b: Integers) -> int:
    """The length of the longest common prefix."""
    shorter = min(len(a), len(b))
    differs = np.flatnonzero(a[:shorter] != b[:shorter])
    return int(differs[0]) if differs.size else shorter

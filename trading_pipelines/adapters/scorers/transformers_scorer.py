"""Score texts by a sequence classifier in the format of Hugging Face transformers, on the processor.

Belongs here: loading, batching, and what the labels of a model mean. Does not belong here: which model (the settings).
Nothing is fetched from the network and no code of a model is run: a model is a folder, or was put into the local cache
by `hf download` before.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from trading_pipelines.adapters.scorers.base import ScorerUnavailableError
from trading_pipelines.domain.sentiment.score import Score, Unscored
from trading_pipelines.settings import ClassifierSettings

Floats = npt.NDArray[np.float64]

_CLOSE = 0.15
"""Difference of the two largest probabilities below which a text is read again with full precision."""
_MEANINGS = {
    "positive": 1.0,
    "pos": 1.0,
    "bullish": 1.0,
    "neutral": 0.0,
    "neu": 0.0,
    "negative": -1.0,
    "neg": -1.0,
    "bearish": -1.0,
    "very positive": 1.0,
    "very negative": -1.0,
    "1 star": -1.0,
    "2 stars": -0.5,
    "3 stars": 0.0,
    "4 stars": 0.5,
    "5 stars": 1.0,
}
"""What common labels mean, in lower case."""
log = structlog.get_logger(__name__)


def is_present(settings: ClassifierSettings) -> bool:
    """Whether the model and what it takes to run it are on this machine; loads neither."""
    return _is_installed() and _folder(settings) is not None


class TransformersScorer:
    """One loaded classifier.

    Texts are read in batches of alike length, so that little is computed for padding. Where the processor multiplies
    16-bit floats itself, they are used, and texts that are then on the edge between two labels are read again with 32
    bits: several times as fast, with the same labels. With 32 bits a model that comes as ONNX too (`onnx/model.onnx`)
    runs in ONNX Runtime, which takes half of PyTorch's time; PyTorch with 16 bits is faster than both.

    Parameters
    ----------
    settings : ClassifierSettings
        Which model, and how it is run.
    fast : bool, optional
        Whether to use 16-bit floats; None asks the processor.

    Raises
    ------
    ScorerUnavailableError
        The libraries or the model are missing, or the meaning of a label is unknown.
    """

    def __init__(self, settings: ClassifierSettings, *, fast: bool | None = None) -> None:
        if not _is_installed():
            raise ScorerUnavailableError(
                "TRADING_SENTIMENT__SCORER: models need further libraries: pip install 'trading-pipelines[sentiment]'"
            )
        folder = _folder(settings)
        if folder is None:
            raise ScorerUnavailableError(
                f"TRADING_SENTIMENT__CLASSIFIER__MODEL: {settings.model} is neither a folder with a model nor in the "
                f"local cache: run `hf download {settings.model}` once"
            )
        import torch
        from transformers import AutoConfig, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        self._settings = settings
        self._fast_model: _TorchModel | None = None
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
            exported = _exported(folder)
            self._model = _TorchModel(folder, torch.float32) if exported is None else _OnnxModel(exported)
            if _multiplies_16_bits(torch) if fast is None else fast:
                self._fast_model = _TorchModel(folder, torch.bfloat16)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            message = f"TRADING_SENTIMENT__CLASSIFIER__MODEL: {settings.model} cannot be loaded: {reason}"
            raise ScorerUnavailableError(message) from error
        self.labels = [str(config.id2label[n]) for n in range(config.num_labels)]
        self._meaning = _meaning(self.labels, settings.labels)
        self._longest = min(settings.max_tokens, int(config.max_position_embeddings))
        self.name = f"{settings.model.rstrip('/').rpartition('/')[2]}-{_content_hash(folder)}"
        log.info(
            "model loaded",
            model=self.name,
            labels=self.labels,
            fast=self._fast_model is not None,
            onnx=isinstance(self._model, _OnnxModel),
        )

    def score(self, texts: Sequence[str]) -> list[Score | Unscored]:
        """Score texts; the score is the mean of the labels' meanings, weighted by their probabilities."""
        probabilities = self.classify(texts)
        return [
            Score(
                float(np.clip(row @ self._meaning, -1.0, 1.0)),
                float(np.clip(row.max(), 0.0, 1.0)),
                {"labels": {label: round(float(p), 4) for label, p in zip(self.labels, row, strict=True)}},
            )
            for row in probabilities
        ]

    def classify(self, texts: Sequence[str]) -> Floats:
        """Probabilities of the labels, a row per text."""
        found = np.zeros((len(texts), len(self.labels)))
        if not texts:
            return found
        tokens = self._tokenizer(list(texts), truncation=True, max_length=self._longest)
        everything = np.arange(len(texts))
        if self._fast_model is None:
            self._fill(found, self._model, tokens, everything)
            return found
        self._fill(found, self._fast_model, tokens, everything)
        best = np.sort(found, axis=1)
        self._fill(found, self._model, tokens, np.flatnonzero(best[:, -1] - best[:, -2] < _CLOSE))
        return found

    def _fill(
        self, found: Floats, model: "_TorchModel | _OnnxModel", tokens: Any, places: npt.NDArray[np.int64]
    ) -> None:
        lengths = np.array([len(ids) for ids in tokens["input_ids"]])
        for batch in _batches(places, lengths, self._settings.batch_size):
            rows = {name: [values[place] for place in batch] for name, values in tokens.items()}
            padded = self._tokenizer.pad(rows, padding=True, return_tensors="np")
            found[batch] = _softmax(model.logits(padded))


class _TorchModel:
    """The model in PyTorch, with floats of one length."""

    def __init__(self, folder: Path, dtype: Any) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        self._torch = torch
        self._model: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, dtype=dtype
        ).eval()

    def logits(self, padded: Mapping[str, npt.NDArray[np.int64]]) -> Floats:
        """A row per text, a column per label."""
        with self._torch.inference_mode():
            tensors = {name: self._torch.from_numpy(values) for name, values in padded.items()}
            return self._model(**tensors).logits.double().numpy()


class _OnnxModel:
    """The model in ONNX Runtime, on as many threads as PyTorch would take."""

    def __init__(self, file: Path) -> None:
        import onnxruntime
        import torch

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session: Any = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the errors of the runtime have no base of their own
            raise ValueError(f"{file.name}: {error}") from error
        self._inputs = [node.name for node in self._session.get_inputs()]

    def logits(self, padded: Mapping[str, npt.NDArray[np.int64]]) -> Floats:
        """A row per text, a column per label."""
        (found,) = self._session.run(None, {name: padded[name] for name in self._inputs})
        return found.astype(np.float64)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _batches(
    places: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], size: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Places in batches, the longest texts first: what does not fit into memory shows at once."""
    ordered = places[np.argsort(-lengths[places], kind="stable")]
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _meaning(labels: Sequence[str], stated: Mapping[str, float]) -> Floats:
    known = {**_MEANINGS, **{label.lower(): value for label, value in stated.items()}}
    unknown = [label for label in labels if label.lower() not in known]
    if unknown:
        raise ScorerUnavailableError(
            f"TRADING_SENTIMENT__CLASSIFIER__LABELS: say what {', '.join(unknown)} of the model mean, for example "
            f"'{{\"{unknown[0]}\": 1.0}}'"
        )
    return np.array([known[label.lower()] for label in labels])


def _is_installed() -> bool:
    return find_spec("torch") is not None and find_spec("transformers") is not None


def _folder(settings: ClassifierSettings) -> Path | None:
    """Where the model's files are."""
    named = Path(settings.model).expanduser()
    if (named / "config.json").is_file():
        return named
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(settings.model, "config.json")
    except HFValidationError:  # a path
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def _exported(folder: Path) -> Path | None:
    """The model as ONNX, where it comes so too and there is something to run it."""
    if find_spec("onnxruntime") is None:
        return None
    return next((file for file in (folder / "onnx" / "model.onnx", folder / "model.onnx") if file.is_file()), None)


def _content_hash(folder: Path) -> str:
    """Of the weights and of what reads them: the same name with other weights is another scorer."""
    digest = hashlib.blake2b(digest_size=4)
    for file in (*sorted(folder.iterdir()), *sorted(folder.glob("onnx/model.onnx"))):
        if file.suffix in {".safetensors", ".bin", ".json", ".txt", ".onnx"}:
            with file.open("rb") as content:
                while piece := content.read(1 << 20):
                    digest.update(piece)
    return digest.hexdigest()


def _multiplies_16_bits(torch: Any) -> bool:
    """Whether the processor has instructions for bfloat16; elsewhere they are imitated and slow."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)

"""Open the scorer that the settings choose.

Belongs here: choosing. Does not belong here: any scorer itself. Nothing heavy is loaded before a model is asked for.
"""

from trading_pipelines.adapters.scorers.base import LexiconScorer, RememberingScorer, Scorer
from trading_pipelines.settings import ScorerName, SentimentSettings


def open_scorer(settings: SentimentSettings) -> Scorer:
    """The scorer for English texts: `auto` takes the model where it is present, and words with weights elsewhere.

    Raises
    ------
    ScorerUnavailableError
        The chosen one lacks something; the message says what to do.
    """
    match settings.scorer:
        case ScorerName.LEXICON:
            return LexiconScorer()
        case ScorerName.LLM:
            from trading_pipelines.adapters.scorers.llm import LlmScorer

            return RememberingScorer(LlmScorer(settings.llm))
        case _:
            from trading_pipelines.adapters.scorers.transformers_scorer import TransformersScorer, is_present

            if settings.scorer is ScorerName.AUTO and not is_present(settings.classifier):
                return LexiconScorer()
            return RememberingScorer(TransformersScorer(settings.classifier))


def open_other_scorer(settings: SentimentSettings, main: Scorer) -> Scorer | None:
    """The scorer for further languages: a model of its own, or a language model, which reads all; otherwise none."""
    if settings.multilingual.model:
        from trading_pipelines.adapters.scorers.transformers_scorer import TransformersScorer

        return RememberingScorer(TransformersScorer(settings.multilingual))
    return main if settings.scorer is ScorerName.LLM else None

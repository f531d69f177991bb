"""Posts of subreddits, through praw.

Belongs here: a listing's posts as texts. Does not belong here: comments and votes.

It needs an application of one's own. praw brings its own way of asking; it gets a session that holds the same bounds
as every other call.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trading_pipelines.adapters.alternative.base import Delivery, NotConfiguredError
from trading_pipelines.adapters.alternative.reading import field, gather, sift, text
from trading_pipelines.adapters.http import HttpPolicy, UnusableAnswerError, bounded_session
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.adapters.sources.limiter import SharedLimiter
from trading_pipelines.domain.alternative.texts import TextItem, TextKind, TextLimits, text_item

if TYPE_CHECKING:
    from trading_pipelines.settings import RedditSettings

_WEB = "https://www.reddit.com"
_LONGEST_WAIT_SECONDS = 120
"""A limit of Reddit's that lasts longer makes a collection fail."""


class RedditSource:
    """The newest posts of some subreddits; one that fails is refused, and the others count."""

    name = "reddit"

    def __init__(self, settings: "RedditSettings", policy: HttpPolicy, limits: TextLimits, cache_dir: Path) -> None:
        self._settings = settings
        self._policy = policy
        self._limits = limits
        self._limiter = SharedLimiter(cache_dir / "limits" / self.name, settings.interval_seconds)

    def fetch(self, since: datetime, until: datetime) -> Delivery[TextItem]:
        """What listings of new posts show now; posts that are known are stored only once."""
        given = {"CLIENT_ID": self._settings.client_id, "CLIENT_SECRET": self._settings.client_secret}
        secrets = {name: value.get_secret_value() if value else "" for name, value in given.items()}
        missing = [f"TRADING_ALTERNATIVE__REDDIT__{name}" for name, value in secrets.items() if not value]
        if missing:
            raise NotConfiguredError(f"set {' and '.join(missing)} to those of an application (reddit.com/prefs/apps)")
        reddit = self._open(*secrets.values())
        return gather([(name, partial(self._posts, reddit, name)) for name in self._settings.subreddits])

    def _open(self, client_id: str, client_secret: str) -> Any:
        import praw  # slow to import, rarely needed

        hosts = {urlsplit(url).hostname for url in (self._settings.base_url, self._settings.login_url)}
        return praw.Reddit(
            client_id=client_id,
            client_secret=client_secret,
            user_agent=self._settings.user_agent,
            oauth_url=self._settings.base_url,
            reddit_url=self._settings.login_url,
            check_for_updates=False,  # it would ask the package index
            ratelimit_seconds=_LONGEST_WAIT_SECONDS,
            timeout=math.ceil(self._policy.timeout_seconds),
            requestor_kwargs={"session": bounded_session(self._policy, lambda host: host in hosts)},
        )

    def _posts(self, reddit: Any, subreddit: str) -> Delivery[TextItem]:
        from praw.exceptions import PRAWException
        from prawcore.exceptions import PrawcoreException

        self._limiter.wait()
        try:
            params = {"limit": str(self._settings.posts), "raw_json": "1"}
            listing = reddit.request(method="GET", path=f"r/{subreddit}/new", params=params)
        except (PRAWException, PrawcoreException) as error:
            raise SourceError(f"reddit does not give r/{subreddit}: {type(error).__name__}") from error
        # Not praw's own posts: one of them that is not as it expects would cost the whole listing.
        children = listing.get("data", {}).get("children") if isinstance(listing, Mapping) else None
        if not isinstance(children, list):
            raise UnusableAnswerError(f"reddit answers for r/{subreddit} without posts", listing)
        return sift(children, partial(self._item, fetched_at=datetime.now(UTC)), lambda post: post["data"]["id"])

    def _item(self, post: Any, fetched_at: datetime) -> TextItem:
        known = field(post, "data")
        author, permalink = known.get("author"), known.get("permalink")
        return text_item(
            self.name,
            text(known, "id", most=100),
            TextKind.POST,
            str(field(known, "title")),
            str(known.get("selftext") or ""),
            f"{_WEB}{permalink}" if permalink else None,
            str(author) if author else None,
            _time(field(known, "created_utc")),
            fetched_at,
            self._limits,
        )


def _time(seconds: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError, TypeError):
        return None

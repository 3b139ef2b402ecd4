"""Links of the console in place of the commands that a report names: whoever reads a page need not go to a terminal."""

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

# A pattern of escaped text, the words of the link, and its address; the first that fits is taken.
PAGES: Sequence[tuple[str, str, str]] = (
    (r"fraudwatch gaps", "the page Runs", "/runs#gaps-title"),
    (r"fraudwatch backfill(?: --from … --to …)?", "the form on the page Runs", "/runs#windows-title"),
    (r"fraudwatch train", "a training from the page Models", "/models"),
    (r"fraudwatch verdict", "in the queue", "/queue"),
    (r"fraudwatch flags list --status open", "the queue", "/queue"),
    (r"fraudwatch strategy list", "the list as JSON", "/api/v1/choices"),
    (r"fraudwatch models show (\d+)", "its page", r"/models/\1"),
    (r"fraudwatch drift(?= shows)", "the list as JSON", "/api/v1/drift"),
    (r"fraudwatch drift", "the table of the newest window", "/drift#newest-drift"),
    (r"see Drift\b", "see Drift", "/drift#drift"),
    (r"see Quality over time\b", "see Quality over time", "/drift#quality"),
)
ANY = re.compile("|".join(pattern for pattern, _, _ in PAGES))


def with_page_links(text: str) -> Markup:
    """The text, escaped, with links in place of the commands that a page of the console stands for."""
    return Markup(ANY.sub(_link, str(escape(text))))  # noqa: S704 - escaped, and links of our own


def _link(match: re.Match[str]) -> str:
    for pattern, words, address in PAGES:
        if own := re.match(pattern, match.string[match.start() :]):
            return f'<a href="{own.expand(address)}">{words}</a>'
    return match[0]

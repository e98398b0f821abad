"""The HTML that Bookinfo shows: one page and its style sheet."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

PRODUCT = {
    "id": 0,
    "title": "The Comedy of Errors",
    "descriptionHtml": (
        "One of <b>William Shakespeare's</b> early plays and his shortest: "
        "slapstick, mistaken identity and a good deal of word play."
    ),
}
DETAILS_ERROR = "Error fetching product details"
REVIEWS_ERROR = "Error fetching product reviews"
RECOMMENDATIONS_ERROR = "Error fetching recommendations"

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: #1c2733; background: #f6f8fa }
header { background: #1c2733; color: #fff; padding: .7rem 2rem; display: flex; gap: 1rem }
header b { flex: 1 }
header form { margin: 0 }
main { max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem }
.columns { display: grid; grid-template-columns: 1fr 1.4fr; gap: 1.5rem }
section { background: #fff; border: 1px solid #d5dde5; border-radius: .5rem; padding: 1rem 1.3rem }
dl { display: grid; grid-template-columns: auto 1fr; gap: .2rem 1rem; margin: 0 }
dd { margin: 0 }
blockquote { margin: 0 0 1rem; border-left: 3px solid #d5dde5; padding-left: 1rem }
.black { color: #1c2733 }
.red { color: #c62828 }
.error { color: #c62828 }
small { color: #5b6b7b }
"""


Answer = tuple[int, Mapping[str, Any]]
"""Status and body of what a service answered."""


def product_page(details: Answer, reviews: Answer, user: str, recommendations: Answer | None = None) -> str:
    """The product page; there may be nobody to recommend anything."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{PRODUCT["title"]} - Bookinfo</title>
<link rel="stylesheet" href="/static/bookinfo.css"></head>
<body><header><b>Bookinfo</b>{_login(user)}</header>
<main><h1>{PRODUCT["title"]}</h1><p>{PRODUCT["descriptionHtml"]}</p><div class="columns">
{_details(*details)}
{_reviews(*reviews)}
</div>{_recommendations(*recommendations) if recommendations is not None else ""}</main></body></html>
"""


def _login(user: str) -> str:
    if user:
        return f'<span>{escape(user)}</span><a href="/logout" style="color:#fff">sign out</a>'
    return (
        '<form method="post" action="/login">'
        '<input name="username" placeholder="user name" required> <button>Sign in</button></form>'
    )


def _details(status: int, body: Mapping[str, Any]) -> str:
    if status != 200:
        return _problem("details", DETAILS_ERROR, status, body)
    rows = "".join(
        f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in body.items()
    )
    version = escape(str(body.get("version", "")))
    return f'<section id="details" data-version="{version}"><h2>Details</h2><dl>{rows}</dl></section>'


def _reviews(status: int, body: Mapping[str, Any]) -> str:
    if status != 200:
        return _problem("reviews", REVIEWS_ERROR, status, body)
    quotes = "".join(_review(review) for review in body["reviews"])
    version, served_by = escape(str(body["version"])), escape(str(body["podname"]))
    return (
        f'<section id="reviews" data-version="{version}"><h2>Reviews</h2>{quotes}'
        f"<small>Reviews served by: {served_by}</small></section>"
    )


def _review(review: Mapping[str, Any]) -> str:
    quote = f"<p>{escape(review['text'])}</p><small>{escape(review['reviewer'])}</small> "
    rating = review.get("rating")
    if rating is None:
        return f"<blockquote>{quote}</blockquote>"
    if "error" in rating:
        return f'<blockquote>{quote}<span class="error">{escape(rating["error"])}</span></blockquote>'
    count = max(0, min(5, int(rating["stars"])))
    stars = "\u2605" * count + "\u2606" * (5 - count)
    return f'<blockquote>{quote}<span class="{escape(rating["color"])}">{stars}</span></blockquote>'


def _recommendations(status: int, body: Mapping[str, Any]) -> str:
    if status != 200:
        return _problem("recommendations", RECOMMENDATIONS_ERROR, status, body)
    titles = "".join(f"<li>{escape(str(title))}</li>" for title in body["titles"])
    version = escape(str(body["version"]))
    heading = f'<section id="recommendations" data-version="{version}"><h2>Read next</h2>'
    return f"{heading}<ul>{titles}</ul></section>"


def _problem(name: str, title: str, status: int, body: Mapping[str, Any]) -> str:
    return (
        f'<section id="{name}" data-status="{status}"><h2 class="error">{title}!</h2>'
        f"<p>{escape(str(body.get('error', '')))}</p></section>"
    )

"""Scripts, styles and pictures of the pages, at addresses with a hash of their content, so that browsers may keep them."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import PurePath

from fastapi import APIRouter, Response

from pipeline.api.problems import ApiError

MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
CACHE_FOREVER = "public, max-age=31536000, immutable"

router = APIRouter()


@cache
def _contents() -> Mapping[str, bytes]:
    return {file.name: file.read_bytes() for file in files("pipeline.web").joinpath("static").iterdir()}


@cache
def asset_version() -> str:
    """A hash of all files."""
    digest = hashlib.sha256()
    for name, content in sorted(_contents().items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:12]


def asset_address(name: str) -> str:
    """The address of a file."""
    assert name in _contents(), name
    return f"/static/{asset_version()}/{name}"


@router.get("/static/{version}/{name}")
async def read_asset(version: str, name: str) -> Response:
    """Answer with a file."""
    content = _contents().get(name)
    if content is None:
        raise ApiError("no_route")
    caching = {"Cache-Control": CACHE_FOREVER} if version == asset_version() else {}
    media_type = MEDIA_TYPES[PurePath(name).suffix]
    return Response(content, headers=caching, media_type=f"{media_type}; charset=utf-8")

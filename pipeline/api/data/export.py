"""Whole tables as CSV or Parquet."""

import tempfile
from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from pipeline.api.context import Context
from pipeline.api.types import PathName
from pipeline.services.data.export import ExportRequest, export_table

router = APIRouter(prefix="/export", tags=["Payments"])
MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}


@router.get(
    "/{table}",
    operation_id="export_table",
    response_class=FileResponse,
    responses={
        200: {
            "content": {kind: {"schema": {"type": "string"}} for kind in ("text/csv", MEDIA_TYPES["parquet"])}
        }
    },
)
def export(context: Context, table: PathName, format: Literal["csv", "parquet"] = "csv") -> FileResponse:  # noqa: A002
    """Export a table or a view whole."""
    folder = tempfile.TemporaryDirectory(prefix="fraudwatch-export-")
    try:
        done = export_table(context.session, ExportRequest(table, Path(folder.name) / f"rows.{format}"))
        context.viewed("export", table, done.rows)
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(
        done.path,
        media_type=MEDIA_TYPES[format],
        filename=f"{done.table}.{format}",
        headers={"X-Rows": str(done.rows)},
        background=BackgroundTask(folder.cleanup),
    )

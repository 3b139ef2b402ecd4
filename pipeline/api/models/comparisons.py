"""Comparisons of techniques on the monitor's own history."""

from functools import partial

from fastapi import APIRouter, Response

from pipeline.api.context import Context
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.types import PathNumber
from pipeline.services.models.comparisons import (
    ComparisonRecord,
    TechniqueComparison,
    list_comparisons,
    show_comparison,
)

router = APIRouter(prefix="/comparisons", tags=["Models"])


@router.get("", operation_id="list_comparisons", response_model=Listing[ComparisonRecord])
def list_(context: Context, parameters: Parameters) -> Response:
    """List stored comparisons, newest first."""
    return parameters.answer(ComparisonRecord, partial(list_comparisons, context.session))


@router.get("/{comparison_id}", operation_id="show_comparison", response_model=TechniqueComparison)
def show(context: Context, comparison_id: PathNumber) -> Response:
    """Show a stored comparison with its results."""
    return json_answer(TechniqueComparison, show_comparison(context.session, comparison_id))

"""What all bodies of requests have in common."""

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """A JSON object with these members and no others: a slip of the pen is an error, not a default."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

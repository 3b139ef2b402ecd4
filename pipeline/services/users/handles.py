"""
Handles of entities: what stands for a column and its value in addresses.

A handle is the column and the value, encrypted and authenticated by AES-SIV (RFC 5297) with a key of the database. It is stored
nowhere, so a page of a thousand flags writes nothing, and a message has the same handle as a page; equal values have equal handles,
so an address can be kept; a handle that was not made here is refused; and histories and logs of browsers and proxies hold nothing that
can be read without the database.
"""

from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.services.session import Session
from pipeline.services.users.sealing import Sealer, sealer


@dataclass(frozen=True)
class EntityHandle:
    """A column and a value of it, as it is stored."""

    column: str
    value: str


@dataclass(frozen=True)
class EntityHandles:
    """Makes and reads handles."""

    sealer: Sealer

    def handle(self, column: str, value: str) -> str:
        """The handle of a stored value, which fits into an address."""
        return self.sealer.seal([column, value])

    def resolve(self, handle: str) -> EntityHandle:
        """
        The column and the value of a handle.

        Raises
        ------
        InputError
            It is none, or was made for another database.
        """
        try:
            column, value = self.sealer.unseal(handle)
        except ValueError:
            raise InputError(
                "this is no handle of an entity", remedy="search for it", code="bad_handle"
            ) from None
        return EntityHandle(column, value)


def entity_handles(session: Session) -> EntityHandles:
    """What makes and reads the handles of this database."""
    return EntityHandles(sealer(session, "handles"))

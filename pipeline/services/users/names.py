"""Names of users, as they are typed and as they are stored."""

import unicodedata

from pipeline.errors import InputError

NAME_MAX = 100  # characters


def user_name(text: str) -> str:
    """
    A user's name as it is stored: in lower case, in one Unicode form.

    Raises
    ------
    InputError
        It is empty, too long, or has blanks or characters that cannot be seen.
    """
    name = unicodedata.normalize("NFKC", text.strip()).lower()
    if not 0 < len(name) <= NAME_MAX or not name.isprintable() or " " in name:
        raise InputError(
            f"a user's name has 1 to {NAME_MAX} visible characters and no blanks",
            remedy="write it like ann or ann@example.com",
            code="bad_user_name",
        )
    return name
